"""Serves connections that another process accepted. It receives them over a unix socket, whose descriptor is its argument."""

import socket
import sys


def answer(connection):
    received = b""
    while chunk := connection.recv(4096):
        received += chunk
        while b"\r\n\r\n" in received:
            _, received = received.split(b"\r\n\r\n", 1)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\npassed\n")


with socket.socket(fileno=int(sys.argv[1])) as channel:
    while True:
        _, descriptors, _, _ = socket.recv_fds(channel, 1, 1)
        if not descriptors:
            break
        with socket.socket(fileno=descriptors[0]) as connection:
            answer(connection)
