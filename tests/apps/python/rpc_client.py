"""Makes a gRPC call of each kind, and some that fail. Arguments: address, then how many plain calls."""

import sys
import time

import grpc

channel = grpc.insecure_channel(sys.argv[1])
secret = [("authorization", "Bearer s3cret")]
for number in range(int(sys.argv[2])):
    channel.unary_unary("/shop.Cart/Get")(b"%d" % number, metadata=secret)
assert len(list(channel.unary_stream("/shop.Cart/Watch")(b"", metadata=secret))) == 3
assert channel.stream_unary("/shop.Cart/Add")(iter([b"a", b"b"])) == b"2"
assert list(channel.stream_stream("/shop.Cart/Chat")(iter([b"a", b"b"]))) == [b"a", b"b"]
for method, timeout in (("Missing", 5), ("Nothing", 5), ("Slow", 0.2)):
    try:
        channel.unary_unary("/shop.Cart/" + method)(b"", timeout=timeout)
    except grpc.RpcError as error:
        print(method, error.code().name)
call = channel.unary_unary("/shop.Cart/Slow").future(b"")
time.sleep(0.1)
call.cancel()
# The reset is on its way.
time.sleep(0.2)
channel.close()
