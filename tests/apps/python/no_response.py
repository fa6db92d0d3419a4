"""Reads requests and answers none. Closes each connection at once (hang-up), or after its client did (wait)."""

import socket
import sys
import threading


def serve(connection, waits):
    with connection:
        while connection.recv(65536) and waits:
            pass


port, mode = sys.argv[1:]
with socket.create_server(("127.0.0.1", int(port)), backlog=128) as server:
    print("listening")
    while True:
        connection, _ = server.accept()
        threading.Thread(target=serve, args=(connection, mode == "wait")).start()
