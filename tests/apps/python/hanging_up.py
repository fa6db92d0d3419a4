"""Reads each request and closes its connection instead of answering."""

import socket
import sys

with socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=128) as server:
    print("listening")
    while True:
        connection, _ = server.accept()
        with connection:
            connection.recv(65536)
