"""Calls another service twice for each request, over fewer connections than there are requests in flight."""

import asyncio
import os
import sys
from contextlib import asynccontextmanager

import httpx
import uvicorn
from fastapi import FastAPI


@asynccontextmanager
async def backend(app):
    limits = httpx.Limits(max_connections=10, max_keepalive_connections=10)
    async with httpx.AsyncClient(base_url=os.environ["BACKEND_URL"], limits=limits, timeout=30) as client:
        app.state.backend = client
        yield


app = FastAPI(lifespan=backend)


@app.get("/r/{number}")
async def serve(number: int):
    for which in ("a", "b"):
        response = await app.state.backend.get(f"/{which}/{number}")
        response.raise_for_status()
    return number


async def main():
    config = uvicorn.Config(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    print("listening")
    await serving


asyncio.run(main())
