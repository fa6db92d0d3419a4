"""Makes unary calls of `shop.Cart/Get` with grpc.aio. Arguments: URL, how many, how many at once, over how many connections.

Prints how many nanoseconds each took.
"""

import asyncio
import sys
import time

import grpc

requests, streams, connections = map(int, sys.argv[2:])
address = sys.argv[1].removeprefix("http://")
numbers = iter(range(requests))


async def call(method):
    for number in numbers:
        begin = time.monotonic_ns()
        await method(b"%d" % number, timeout=60)
        print(time.monotonic_ns() - begin)


async def main():
    # Otherwise channels to one address share a connection.
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(address, options=options) for _ in range(connections)]
    methods = [channels[worker % connections].unary_unary("/shop.Cart/Get") for worker in range(streams)]
    await asyncio.gather(*map(call, methods))
    for channel in channels:
        await channel.close()


asyncio.run(main())
