"""Calls another service every 50 ms in the background, and once for each of its own requests, which last 40 ms."""

import asyncio
import os
import sys

import aiohttp
from aiohttp import web


async def call(app, path):
    async with app["backend"].get(os.environ["BACKEND_URL"] + path) as response:
        await response.read()


async def serve(request):
    await call(request.app, f"/a/{request.match_info['number']}")
    await asyncio.sleep(0.04)
    return web.Response(text="served\n")


async def beat(app):
    while True:
        await call(app, "/beat")
        await asyncio.sleep(0.05)


async def start(app):
    app["backend"] = aiohttp.ClientSession()
    app["beat"] = asyncio.create_task(beat(app))


app = web.Application()
app.add_routes([web.get("/r/{number}", serve)])
app.on_startup.append(start)
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=lambda *_: print("listening"))
