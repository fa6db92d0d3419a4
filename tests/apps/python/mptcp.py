"""Listens with MPTCP. Answers every GET with the protocol of the connection, except /silence: it closes that connection."""

import socket
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

IPPROTO_MPTCP = 262


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/silence":
            self.close_connection = True
            return
        body = b"mptcp" if self.connection.proto == IPPROTO_MPTCP else b"tcp"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Listener(socket.socket):
    """Accepts with the connection's own protocol: it is TCP for a client without MPTCP."""

    def accept(self):
        descriptor, address = self._accept()
        connection = socket.socket(fileno=descriptor)
        return connection, address


with HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler, bind_and_activate=False) as server:
    server.socket.close()
    server.socket = Listener(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP)
    server.allow_reuse_address = True
    server.server_bind()
    server.server_activate()
    print("listening")
    server.serve_forever()
