"""Sends a GET for each path over one connection, and prints the bodies of the responses.

Arguments: the port, `tcp` or `mptcp`, what it does after the last request, and the paths. It can `read` the response. Or it
does not: it can `close` the connection, `shutdown` it, or do neither (`exit`), and exits at once.
"""

import os
import socket
import sys

IPPROTO_MPTCP = 262


def read_response(connection, buffer):
    while b"\r\n\r\n" not in buffer:
        buffer += receive(connection)
    head, _, rest = buffer.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    length = int(fields.get(b"content-length", 0))
    while len(rest) < length:
        rest += receive(connection)
    print(rest[:length].decode(), flush=True)
    return rest[length:]


def receive(connection):
    received = connection.recv(65536)
    if not received:
        sys.exit("the server closed the connection")
    return received


port, protocol, end, *paths = sys.argv[1:]
connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP if protocol == "mptcp" else 0)
connection.connect(("127.0.0.1", int(port)))
buffer = b""
for path in paths:
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: shop.test\r\n\r\n".encode())
    if path != paths[-1] or end == "read":
        buffer = read_response(connection, buffer)
if end == "close":
    connection.close()
elif end == "shutdown":
    connection.shutdown(socket.SHUT_RDWR)
os._exit(0)
