"""Sends numbered requests over TLS, and prints what each of them measured.

Arguments: an unused port, kind of client, server's port, requests, requests in flight, keep or churn, the file that says that
the load may begin, folder of the certificate, warm or cold. With warm, connections are open before the load begins.
"""

import asyncio
import http.client
import json
import os
import socket
import ssl
import sys
import threading
import time

import httpx
import psycopg
import redis
import requests

KIND, SERVER, COUNT, IN_FLIGHT = sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
KEEP, GO, CERTIFICATE, WARM = sys.argv[6] == "keep", sys.argv[7], sys.argv[8] + "/cert.pem", sys.argv[9] == "warm"

context = ssl.create_default_context(cafile=CERTIFICATE)
# psycopg loads its libraries when it is used first.
psycopg.pq.version()


class Http:
    def __init__(self):
        self.connection = http.client.HTTPSConnection("localhost", SERVER, context=context)
        self.connection.connect()

    def request(self, number):
        port = self.connection.sock.getsockname()[1]
        self.connection.request("GET", f"/r/{number}")
        response = self.connection.getresponse()
        response.read()
        assert response.status == 200, response.status
        return port

    def close(self):
        self.connection.close()


class Pooled:
    """A client with a pool of its own. The response says which port it used."""

    def request(self, number):
        response = self.session.get(f"https://localhost:{SERVER}/r/{number}")
        assert response.status_code == 200, response.status_code
        return int(response.text.split()[1])

    def close(self):
        self.session.close()


class Requests(Pooled):
    def __init__(self):
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.verify = CERTIFICATE


class Httpx(Pooled):
    def __init__(self):
        self.session = httpx.Client(verify=context, trust_env=False)


class Redis:
    def __init__(self):
        self.redis = redis.Redis(
            host="localhost", port=SERVER, ssl=True, ssl_ca_certs=CERTIFICATE, single_connection_client=True
        )
        self.redis.ping()

    def request(self, number):
        self.redis.get(f"key:{number}")
        return self.redis.connection._sock.getsockname()[1]

    def close(self):
        self.redis.close()


class Postgres:
    def __init__(self):
        self.connection = psycopg.connect(
            f"host=127.0.0.1 port={SERVER} user=postgres dbname=postgres sslmode=require", autocommit=True
        )

    def request(self, number):
        self.connection.execute(f"SELECT 1 AS r{number}").fetchone()
        with socket.socket(fileno=os.dup(self.connection.fileno())) as same:
            return same.getsockname()[1]

    def close(self):
        self.connection.close()


def threads(client):
    kept = [client() for _ in range(IN_FLIGHT)] if WARM else [None] * IN_FLIGHT
    if WARM:
        for connection in kept:
            connection.request(1_000_000)
    wait()
    numbers, lock, done = iter(range(COUNT)), threading.Lock(), []

    def work(connection):
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            if connection is None:
                connection = client()
            began = time.time_ns()
            port = connection.request(number)
            done.append([number, port, began, time.time_ns()])
            if not KEEP:
                connection.close()
                connection = None

    workers = [threading.Thread(target=work, args=(connection,)) for connection in kept]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return done


async def tasks():
    """aiohttp. The port is that of the server's view: the response says it."""
    import aiohttp

    done, numbers = [], iter(range(COUNT))
    connector = aiohttp.TCPConnector(ssl=context, limit=IN_FLIGHT, force_close=not KEEP)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def request(number):
            async with session.get(f"https://localhost:{SERVER}/r/{number}") as response:
                assert response.status == 200, response.status
                return int((await response.text()).split()[1])

        async def work():
            for number in numbers:
                began = time.time_ns()
                port = await request(number)
                done.append([number, port, began, time.time_ns()])

        if WARM:
            await asyncio.gather(*(request(1_000_000) for _ in range(IN_FLIGHT)))
        await asyncio.to_thread(wait)
        await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
    return done


def wait():
    print("listening", flush=True)
    while not os.path.exists(GO):
        time.sleep(0.005)


if KIND == "aiohttp":
    result = asyncio.run(tasks())
else:
    kinds = {"http": Http, "requests": Requests, "httpx": Httpx, "redis": Redis, "postgres": Postgres}
    result = threads(kinds[KIND])
print("done", json.dumps(result), flush=True)
time.sleep(3600)
