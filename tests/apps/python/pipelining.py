"""Sends many requests before it reads their responses: pipelining.py HOW COUNT ADDRESS."""

import asyncio
import selectors
import socket
import sys

TABLE = "CREATE TABLE numbers (number integer, name text)"


def raw(address, requests, responses_end, send=socket.socket.send):
    """Sends `requests` as fast as the server takes them, and reads until `responses_end` says that this was all."""
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port))) as connection, selectors.DefaultSelector() as selector:
        connection.setblocking(False)
        selector.register(connection, selectors.EVENT_READ | selectors.EVENT_WRITE)
        unsent, received = memoryview(requests), bytearray()
        while not responses_end(received):
            [(_, ready)] = selector.select()
            if ready & selectors.EVENT_WRITE:
                unsent = unsent[send(connection, unsent) :]
                if not unsent:
                    selector.modify(connection, selectors.EVENT_READ)
            if ready & selectors.EVENT_READ:
                some = connection.recv(65536)
                assert some, "the server closed the connection"
                received += some


def in_pieces(connection, unsent):
    """Sends in as many buffers as one call takes."""
    return connection.sendmsg([unsent[at : at + 37] for at in range(0, min(len(unsent), 37 * 1024), 37)])


def http(count, address, send=socket.socket.send):
    requests = b"".join(b"GET /%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % number for number in range(count))
    is_all = lambda received: received.endswith(b"ok\n") and received.count(b"HTTP/1.1 200 OK\r\n") == count
    raw(address, requests, is_all, send)


def http_in_pieces(count, address):
    http(count, address, in_pieces)


def memcached(count, address):
    requests = b"".join(b"get number-%d\r\n" % number for number in range(count))
    raw(address, requests, lambda received: len(received) == len(b"END\r\n") * count)


def redis(count, address):
    from redis import Redis

    with Redis.from_url(address) as client, client.pipeline(transaction=False) as pipeline:
        for number in range(count):
            pipeline.set(f"number-{number}", number)
        assert pipeline.execute() == [True] * count


def psycopg(count, address):
    from psycopg import connect

    with connect(address, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(TABLE)
        rows = [(number, f"name {number}") for number in range(count)]
        cursor.executemany("INSERT INTO numbers VALUES (%s, %s)", rows)


def psycopg_pipeline(count, address):
    from psycopg import connect

    with connect(address, autocommit=True) as connection:
        connection.execute(TABLE)
        with connection.pipeline():
            for number in range(count):
                connection.execute("INSERT INTO numbers VALUES (%s, %s)", (number, f"name {number}"))


def asyncpg(count, address):
    from asyncpg import connect

    async def insert():
        connection = await connect(address)
        await connection.execute(TABLE)
        rows = [(number, f"name {number}") for number in range(count)]
        await connection.executemany("INSERT INTO numbers VALUES ($1, $2)", rows)
        await connection.close()

    asyncio.run(insert())


how, count, address = sys.argv[1:]
globals()[how](int(count), address)
