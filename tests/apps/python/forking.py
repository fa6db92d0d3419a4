"""Forks a process for each connection."""

import sys
from http.server import BaseHTTPRequestHandler
from socketserver import ForkingMixIn, TCPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body are written separately. Without this the body waits until the head is acknowledged.
    disable_nagle_algorithm = True

    def do_GET(self):
        body = b"from a child\n"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(ForkingMixIn, TCPServer):
    allow_reuse_address = True
    request_queue_size = 50


with Server(("127.0.0.1", int(sys.argv[1])), Handler) as server:
    print("listening")
    server.serve_forever()
