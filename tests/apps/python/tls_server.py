"""Serves HTTPS with aiohttp or uvicorn. The response has the path and the client's port.

Arguments: port, aiohttp or uvicorn, folder of the certificate.
"""

import ssl
import sys

PORT, KIND, FOLDER = int(sys.argv[1]), sys.argv[2], sys.argv[3]


def serve_aiohttp():
    from aiohttp import web

    async def respond(request):
        return web.Response(text=f"{request.path} {request.transport.get_extra_info('peername')[1]}")

    async def started(_):
        print("listening", flush=True)

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(f"{FOLDER}/cert.pem", f"{FOLDER}/key.pem")
    app = web.Application()
    app.router.add_get("/r/{number}", respond)
    app.on_startup.append(started)
    web.run_app(app, host="127.0.0.1", port=PORT, ssl_context=context, print=None)


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        print("listening", flush=True)
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    body = f"{scope['path']} {scope['client'][1]}".encode()
    length = str(len(body)).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
    await send({"type": "http.response.body", "body": body})


if KIND == "aiohttp":
    serve_aiohttp()
else:
    import uvicorn

    uvicorn.run(
        app,
        host="127.0.0.1",
        port=PORT,
        loop="asyncio",
        log_level="warning",
        ssl_certfile=f"{FOLDER}/cert.pem",
        ssl_keyfile=f"{FOLDER}/key.pem",
    )
