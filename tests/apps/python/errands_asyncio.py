"""Asks another service twice on behalf of each request, over fewer connections than there are requests in flight."""

import os
import sys

import aiohttp
from aiohttp import web


async def ask(request, path):
    async with request.app["elsewhere"].get(os.environ["ELSEWHERE_URL"] + path) as answer:
        answer.raise_for_status()
        await answer.read()


async def errands(request):
    number = request.match_info["number"]
    await ask(request, f"/a/{number}")
    await ask(request, f"/b/{number}")
    return web.Response(text=f"{number}\n")


async def elsewhere(app):
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=10)) as session:
        app["elsewhere"] = session
        yield


app = web.Application()
app.router.add_get("/r/{number}", errands)
app.cleanup_ctx.append(elsewhere)
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=lambda _: print("listening", flush=True))
