"""Each request is read by one process and answered by its child after that process has ended."""

import os
import signal
import socket
import sys

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nhanded over\n"


def request(connection):
    head = b""
    while b"\r\n\r\n" not in head and (chunk := connection.recv(4096)):
        head += chunk
    return head


# Nothing waits for the processes, so let the kernel reap them.
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as server:
    print("listening")
    while True:
        connection, _ = server.accept()
        if os.fork() == 0:
            reader = os.getpid()
            while request(connection):
                if os.fork() != 0:
                    os._exit(0)
                while os.getppid() == reader:
                    pass
                reader = os.getpid()
                connection.sendall(ANSWER)
            os._exit(0)
        connection.close()
