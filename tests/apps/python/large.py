"""Answers /large with as many bytes as its argument says, in writes of 64 KiB, and any other path with one line."""

import socket
import sys

BYTES = int(sys.argv[2])
PIECE = b"x" * (64 << 10)


def body(connection):
    left = BYTES
    while left:
        piece = PIECE[:left]
        connection.sendall(piece)
        left -= len(piece)


with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as server:
    print("listening")
    while True:
        connection, _ = server.accept()
        with connection:
            while head := connection.recv(4096):
                if head.startswith(b"GET /large"):
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % BYTES)
                    body(connection)
                else:
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsmall\n")
