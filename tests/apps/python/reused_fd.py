"""Serves connections one after another, so that each has the same descriptor. Closes without a response for /silence.

Each response contains the number of its connection's descriptor.
"""

import socket
import sys

with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as server:
    print("listening")
    while True:
        connection, _ = server.accept()
        with connection:
            head = b""
            while b"\r\n\r\n" not in head and (chunk := connection.recv(4096)):
                head += chunk
            if head and not head.startswith(b"GET /silence"):
                body = f"{connection.fileno()}\n".encode()
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
