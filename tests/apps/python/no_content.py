"""Answers every GET with 204, on the loopback address that is its second argument."""

import socket
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


class Server(HTTPServer):
    address_family = socket.AF_INET6 if ":" in sys.argv[2] else socket.AF_INET


with Server((sys.argv[2], int(sys.argv[1])), Handler) as server:
    print("listening")
    server.serve_forever()
