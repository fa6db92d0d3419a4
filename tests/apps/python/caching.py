"""Uses memcached through pymemcache (text), python-binary-memcached (binary) and a pipeline of its own."""

import os
import socket

import bmemcached
from flask import Flask, abort
from pymemcache.client.base import Client
from pymemcache.exceptions import MemcacheClientError

app = Flask(__name__)
ADDRESS = os.environ["MEMCACHED"]
HOST, PORT = ADDRESS.rsplit(":", 1)


@app.get("/text")
def text():
    client = Client((HOST, int(PORT)), default_noreply=False)
    client.set("secret-key", "secret-value")
    client.get("secret-key")
    client.get_many(["secret-key", "secret-other"])
    client.add("secret-key", "y")
    try:
        client.incr("secret-key", 1)
        abort(500)
    except MemcacheClientError:
        return "done"
    finally:
        client.close()


@app.get("/binary")
def binary():
    client = bmemcached.Client((ADDRESS,))
    client.set("secret-key", "secret-value")
    client.get("secret-key")
    client.get("secret-other")
    client.delete("secret-key")
    client.disconnect_all()
    return "done"


@app.get("/pipeline/<int:count>")
def pipeline(count):
    """Sends `count` requests before it reads the first response."""
    with socket.create_connection((HOST, int(PORT))) as connection:
        connection.sendall(b"".join(b"get secret-%d\r\n" % number for number in range(count)))
        expected = b"END\r\n" * count
        received = b""
        while len(received) < len(expected):
            received += connection.recv(65536)
    return "done" if received == expected else abort(500)
