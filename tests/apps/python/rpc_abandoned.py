"""Makes gRPC calls at once that are not answered, and prints how they ended. Arguments: address, then how many."""

import sys

import grpc

channel = grpc.insecure_channel(sys.argv[1])
hang = channel.unary_unary("/shop.Cart/Hang")
calls = [hang.future(b"") for _ in range(int(sys.argv[2]))]
print(*[call.code().name for call in calls])
channel.close()
