"""Calls another service twice for each request, over fewer connections than there are requests in flight."""

import os
import sys

import aiohttp
from aiohttp import web


async def call(request, path):
    async with request.app["backend"].get(os.environ["BACKEND_URL"] + path) as response:
        response.raise_for_status()
        await response.read()


async def serve(request):
    number = request.match_info["number"]
    await call(request, f"/a/{number}")
    await call(request, f"/b/{number}")
    return web.Response(text=f"{number}\n")


async def backend(app):
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=10)) as session:
        app["backend"] = session
        yield


app = web.Application()
app.router.add_get("/r/{number}", serve)
app.cleanup_ctx.append(backend)
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=lambda _: print("listening", flush=True))
