"""Gives up gRPC streams in each way, and then makes the server leave while a stream is open. Prints how each ended. Arguments:
address."""

import sys

import grpc

channel = grpc.insecure_channel(sys.argv[1])
grpc.channel_ready_future(channel).result()
feed = channel.unary_stream("/shop.Cart/Feed")
chat = channel.stream_stream("/shop.Cart/Chat")


def end_of(call):
    try:
        return sum(1 for _ in call)
    except grpc.RpcError as error:
        return error.code().name


# The messages are 0.3 s apart: two come in time.
print("deadline", end_of(feed(b"9", timeout=0.75)))

call = feed(b"9")
next(call)
call.cancel()
print("cancelled", end_of(call))

print("failed", end_of(channel.unary_stream("/shop.Cart/Break")(b"")))

call = feed(b"5")
next(call)
channel.unary_unary("/shop.Cart/Leave")(b"")
print("left", 1 + end_of(call))
channel.close()
