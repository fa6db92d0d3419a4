"""Switches to WebSocket at /chat and echoes what it receives. Answers other upgrade requests like any request."""

import base64
import hashlib
import socket
import sys

# RFC 6455 1.3.
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def echo(connection, received):
    while received or (received := connection.recv(4096)):
        connection.sendall(received)
        received = b""


def serve(connection):
    received = b""
    while chunk := connection.recv(4096):
        received += chunk
        while b"\r\n\r\n" in received:
            head, received = received.split(b"\r\n\r\n", 1)
            fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
            if head.startswith(b"GET /chat "):
                accept = base64.b64encode(hashlib.sha1(fields[b"Sec-WebSocket-Key"] + GUID).digest())
                connection.sendall(
                    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
                )
                return echo(connection, received)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n")


with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as server:
    print("listening")
    while True:
        connection, _ = server.accept()
        with connection:
            serve(connection)
