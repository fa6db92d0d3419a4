"""Reads a request to /late/... only after its client has reset the connection. Calls a backend for each request."""

import http.client
import os
import socket
import struct
import sys
import time

# include/net/tcp_states.h
TCP_CLOSE = 7

backend = http.client.HTTPConnection(os.environ["BACKEND_ADDRESS"], timeout=30)


def state(connection):
    """Returns the first byte of `struct tcp_info` (include/uapi/linux/tcp.h)."""
    return struct.unpack("B", connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1))[0]


with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as server:
    print("listening")
    while True:
        connection, _ = server.accept()
        with connection:
            if connection.recv(10, socket.MSG_PEEK) == b"GET /late/":
                while state(connection) != TCP_CLOSE:
                    time.sleep(0.001)
            head = connection.recv(4096)
            number = head.split(b" ")[1].rsplit(b"/", 1)[1].decode()
            backend.request("GET", f"/a/{number}")
            backend.getresponse().read()
            try:
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\ndone\n")
            except OSError:
                print("aborted", number)
