"""Serves on the IPv6 loopback address."""

import socket
import sys
from http.server import HTTPServer, SimpleHTTPRequestHandler


class Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(204)
        self.end_headers()


class Server(HTTPServer):
    address_family = socket.AF_INET6


with Server(("::1", int(sys.argv[1])), Handler) as server:
    print("listening")
    server.serve_forever()
