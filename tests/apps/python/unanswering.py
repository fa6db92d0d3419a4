"""Reads requests and answers none: closes each connection at once, or when its client does."""

import socket
import sys
import threading


def serve(connection, waits):
    with connection:
        while connection.recv(65536) and waits:
            pass


port, what = sys.argv[1:]
with socket.create_server(("127.0.0.1", int(port)), backlog=128) as server:
    print("listening")
    while True:
        connection, _ = server.accept()
        threading.Thread(target=serve, args=(connection, what == "waits")).start()
