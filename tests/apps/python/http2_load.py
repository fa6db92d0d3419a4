"""Sends requests for /items/N over HTTP/2 with httpx. Arguments: URL, how many, how many at once, over how many connections.

Prints how many nanoseconds each took.
"""

import asyncio
import sys
import time

import httpx

requests, streams, connections = map(int, sys.argv[2:])
numbers = iter(range(requests))
one = httpx.Limits(max_connections=1)


async def send(client):
    for number in numbers:
        begin = time.monotonic_ns()
        response = await client.get(f"/items/{number}")
        print(time.monotonic_ns() - begin)
        assert response.status_code == 200, response


async def use_connection():
    async with httpx.AsyncClient(http1=False, http2=True, base_url=sys.argv[1], limits=one, timeout=60) as client:
        await asyncio.gather(*(send(client) for _ in range(streams // connections)))


async def main():
    await asyncio.gather(*(use_connection() for _ in range(connections)))


asyncio.run(main())
