"""A gRPC service that makes a call of `ITS.SERVICE.P` for each call of `ITS.SERVICE`, over one connection. Arguments: port."""

import os
import sys
from concurrent import futures

import grpc

channel = grpc.insecure_channel(os.environ["BACKEND"])


class Handler(grpc.GenericRpcHandler):
    def service(self, details):
        service, number = details.method.rsplit("/", 1)

        def relay(request, context):
            return channel.unary_unary(f"{service}.P/{number}")(request)

        return grpc.unary_unary_rpc_method_handler(relay)


server = grpc.server(futures.ThreadPoolExecutor(8), handlers=[Handler()])
server.add_insecure_port("127.0.0.1:" + sys.argv[1])
server.start()
print("listening")
server.wait_for_termination()
