"""An ASGI application behind Hypercorn, which speaks HTTP/2 and upgrades from HTTP/1. Arguments: port."""

import asyncio
import sys

from hypercorn.asyncio import serve
from hypercorn.config import Config


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    status = 404 if scope["path"] == "/missing" else 200
    await send({"type": "http.response.start", "status": status, "headers": [(b"set-cookie", b"id=s3cret")]})
    await send({"type": "http.response.body", "body": b"hello"})


async def main():
    config = Config()
    config.bind = ["127.0.0.1:" + sys.argv[1]]
    # By default it leaves a connection after 1,000 requests.
    config.keep_alive_max_requests = 100_000
    server = asyncio.create_task(serve(app, config))
    while True:
        try:
            # Hypercorn says that it listens to nobody who can wait for it.
            _, writer = await asyncio.open_connection("127.0.0.1", int(sys.argv[1]))
            writer.close()
            break
        except OSError:
            await asyncio.sleep(0.05)
    print("listening")
    await server


asyncio.run(main())
