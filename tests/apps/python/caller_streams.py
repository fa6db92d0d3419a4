"""Calls another service twice for each request. It needs only asyncio, so every version of Python runs it.

CONNECTIONS says how calls are sent: `pool` (10 connections, each used by one request at a time), `shared` (one connection, on
which requests are pipelined), or `tasks` (as `pool`, and each response is written by a task of its own).
"""

import asyncio
import os
import sys
from collections import deque
from urllib.parse import urlsplit

BACKEND = urlsplit(os.environ["BACKEND_URL"])
CONNECTIONS = os.environ.get("CONNECTIONS", "pool")


async def read_message(reader):
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
    if fields.get("transfer-encoding") == "chunked":
        while await reader.readuntil(b"\r\n") != b"0\r\n":
            await reader.readuntil(b"\r\n")
        await reader.readuntil(b"\r\n")
    else:
        await reader.readexactly(int(fields.get("content-length", 0)))
    return head


def request(path):
    return f"GET {path} HTTP/1.1\r\nHost: {BACKEND.netloc}\r\n\r\n".encode()


class Pool:
    def __init__(self, size):
        self.free = asyncio.Queue()
        for _ in range(size):
            self.free.put_nowait(None)

    async def call(self, path):
        connection = await self.free.get()
        if connection is None:
            connection = await asyncio.open_connection(BACKEND.hostname, BACKEND.port)
        reader, writer = connection
        writer.write(request(path))
        await read_message(reader)
        self.free.put_nowait(connection)


class Shared:
    async def open(self):
        self.reader, self.writer = await asyncio.open_connection(BACKEND.hostname, BACKEND.port)
        self.waiting = deque()
        self.receiving = asyncio.ensure_future(self.receive())

    async def receive(self):
        while True:
            await read_message(self.reader)
            self.waiting.popleft().set_result(None)

    async def call(self, path):
        answered = asyncio.get_running_loop().create_future()
        self.waiting.append(answered)
        self.writer.write(request(path))
        await answered


async def write(writer, text):
    writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode())


async def answer(path, backend, writer):
    number = path.rsplit("/", 1)[1]
    await backend.call(f"/a/{number}")
    await backend.call(f"/b/{number}")
    if CONNECTIONS == "tasks":
        await asyncio.ensure_future(write(writer, number))
    else:
        await write(writer, number)


async def main():
    if CONNECTIONS == "shared":
        backend = Shared()
        await backend.open()
    else:
        backend = Pool(10)

    tasks = set()

    async def serve(reader, writer):
        # The event loop itself does not keep a task that waits.
        tasks.add(asyncio.current_task())
        try:
            while True:
                head = await read_message(reader)
                path = head.split(" ", 2)[1]
                # As servers do, each request has a task of its own.
                await asyncio.ensure_future(answer(path, backend, writer))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()
        finally:
            tasks.discard(asyncio.current_task())

    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]))
    print("listening", flush=True)
    async with server:
        await server.serve_forever()


asyncio.run(main())
