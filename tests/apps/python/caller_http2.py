"""Calls another service twice for each request `/r/N`, over one connection of HTTP/2: with httpx, or with grpc.aio if the variable
GRPC is set. Arguments: port."""

import asyncio
import os
import sys

import grpc
import httpx
from hypercorn.asyncio import serve
from hypercorn.config import Config

backend = os.environ["BACKEND"]


class ByHttpx:
    def __init__(self):
        self.client = httpx.AsyncClient(http1=False, http2=True, base_url="http://" + backend)

    async def call(self, which, number):
        await self.client.get(f"/{which}/{number}")


class ByGrpc:
    def __init__(self):
        self.channel = grpc.aio.insecure_channel(backend)

    async def call(self, which, number):
        await self.channel.unary_unary(f"/calls.{which.upper()}/{number}")(b"")


class App:
    client = None

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            raise ValueError("not HTTP")
        self.client = self.client or (ByGrpc() if "GRPC" in os.environ else ByHttpx())
        number = scope["path"].rsplit("/", 1)[1]
        for which in ("a", "b"):
            await self.client.call(which, number)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


async def main():
    config = Config()
    config.bind = ["127.0.0.1:" + sys.argv[1]]
    config.keep_alive_timeout = 60
    print("listening")
    await serve(App(), config)


asyncio.run(main())
