"""A server of `shop.Cart/Get` with grpc.aio. Arguments: port."""

import asyncio
import sys

import grpc


async def get(request, context):
    await asyncio.sleep(0)
    return b"cart of " + request


class Handler(grpc.GenericRpcHandler):
    def service(self, details):
        if details.method == "/shop.Cart/Get":
            return grpc.unary_unary_rpc_method_handler(get)
        return None


async def main():
    server = grpc.aio.server(handlers=[Handler()])
    server.add_insecure_port("127.0.0.1:" + sys.argv[1])
    await server.start()
    print("listening")
    await server.wait_for_termination()


asyncio.run(main())
