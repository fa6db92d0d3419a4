"""Sends requests of many sizes, always the same ones. Arguments: library, URL without a path, number of requests, and the most bytes of a body.
Prints a digest of all responses."""

import asyncio
import hashlib
import subprocess
import sys

library, url, count, most = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
OWN = {"Traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
PATTERN = bytes(range(251)) * (most // 251 + 1)
digest = hashlib.sha256()


def numbers():
    """As in the other languages."""
    state = 6
    while True:
        state = (state * 1103515245 + 12345) & 0x7FFFFFFF
        yield state >> 8


def plan():
    """Method, path, header fields, body and whether it is sent in chunks."""
    random = numbers()

    def size():
        # As many of each order of magnitude.
        power = 1 << next(random) % (most.bit_length() - 1)
        return power + next(random) % power

    for index in range(count):
        sent, answer = size(), size()
        kind = next(random) % 8
        body = PATTERN[:sent] if kind > 2 else None
        path = f"/{index}?answer={answer}"
        yield "GET" if body is None else "POST", path, OWN if kind in (2, 7) else {}, body, kind == 6


def parts(body):
    return [body[at : at + 9000] for at in range(0, len(body), 9000)]


def take(content):
    digest.update(content)


def connections():
    """The requests of each connection."""
    requests = list(plan())
    return [requests[at : at + 25] for at in range(0, count, 25)]


def with_requests():
    import requests

    for connection in connections():
        with requests.Session() as session:
            for method, path, headers, body, chunked in connection:
                data = iter(parts(body)) if chunked else body
                take(session.request(method, url + path, headers=headers, data=data, timeout=60).content)


def with_httpx():
    import httpx

    for connection in connections():
        with httpx.Client(timeout=60) as client:
            for method, path, headers, body, chunked in connection:
                content = iter(parts(body)) if chunked else body
                take(client.request(method, url + path, headers=headers, content=content).content)


def with_aiohttp():
    import aiohttp

    async def stream(body):
        for part in parts(body):
            yield part

    async def main():
        for connection in connections():
            async with aiohttp.ClientSession() as session:
                for method, path, headers, body, chunked in connection:
                    data = stream(body) if chunked else body
                    async with session.request(method, url + path, headers=headers, data=data) as response:
                        take(await response.read())

    asyncio.run(main())


def with_curl():
    for method, path, headers, body, chunked in plan():
        command = ["curl", "--silent", "--fail", "--request", method, url + path]
        for name, value in headers.items():
            command += ["--header", f"{name}: {value}"]
        if chunked:
            command += ["--header", "Transfer-Encoding: chunked"]
        if body is not None:
            command += ["--data-binary", "@-"]
        take(subprocess.run(command, input=body, stdout=subprocess.PIPE, check=True).stdout)


globals()["with_" + library]()
print(digest.hexdigest())
