"""Reads a request and never answers it."""

import signal
import socket
import sys

with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as server:
    print("listening")
    connection, _ = server.accept()
    connection.recv(4096)
    print("hanging")
    signal.pause()
