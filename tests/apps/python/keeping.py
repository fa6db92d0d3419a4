"""Makes requests with aiohttp one after another on one connection. Arguments: a URL without a path, and how many times it makes them. Before,
it makes two requests on new connections until the second one arrives with a trace context: the agent has to know the program."""

import asyncio
import sys
import time

import aiohttp

url, times = sys.argv[1], int(sys.argv[2])
OWN = {"Traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}


async def parts():
    for part in [b"one", b"two" * 1000, b"three"]:
        yield part


def one_connection():
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1))


async def send(session, method, path, **options):
    async with session.request(method, url + path, **options) as response:
        return await response.read()


async def main():
    begun, known = time.monotonic(), False
    while not known and time.monotonic() - begun < 20:
        async with one_connection() as session:
            await send(session, "GET", "/first")
            known = b"traceparent" in await send(session, "GET", "/second")
    async with one_connection() as session:
        for _ in range(times):
            await send(session, "GET", "/get")
            await send(session, "POST", "/post", data=bytes(range(256)) * 4096)
            await send(session, "GET", "/own", headers=OWN)
        await send(session, "POST", "/chunked", data=parts())
        await send(session, "GET", "/after")


asyncio.run(main())
