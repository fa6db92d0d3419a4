"""Accepts connections and passes each over a unix socket to another program: answering.py."""

import os
import socket
import subprocess
import sys

own, others = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
answering = os.path.join(os.path.dirname(__file__), "answering.py")
with (
    socket.create_server(("127.0.0.1", int(sys.argv[1]))) as server,
    subprocess.Popen([sys.executable, answering, str(others.fileno())], pass_fds=[others.fileno()]),
):
    others.close()
    print("listening")
    while True:
        connection, _ = server.accept()
        # Closes the descriptor, so that the next connection gets its number.
        with connection:
            socket.send_fds(own, [b"!"], [connection.fileno()])
