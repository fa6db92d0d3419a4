"""Holds a listening socket, and starts the service that accepts on it. Starts another service as well.

Arguments: an unused port, the port of the socket, the port of the other service, and how the service is started: `at-once`;
`on-demand`, when a client connects; so by `systemd-socket-activate`; or so by a program called `systemd`. The service gets the
socket as descriptor 3, as sd_listen_fds(3) describes.
"""

import os
import select
import shutil
import socket
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


def serve(listener):
    server = HTTPServer(listener.getsockname(), Handler, bind_and_activate=False)
    server.socket.close()
    server.socket = listener
    server.serve_forever()


def start(*arguments, **options):
    return subprocess.Popen([os.environ.get("PYTHON", sys.executable), __file__, *arguments], **options)


if sys.argv[1] == "service":
    serve(socket.socket(fileno=3))
elif sys.argv[1] == "other":
    with socket.create_server(("127.0.0.1", int(sys.argv[2]))) as other:
        serve(other)

_, _, port, other, when = sys.argv
if when == "systemd":
    program = os.path.join(os.environ["HOME"], when)
    shutil.copy(os.path.realpath(sys.executable), program)
    environment = {**os.environ, "PYTHON": sys.executable}
    os.execve(program, [program, __file__, "0", port, other, "on-demand"], environment)
if when == "systemd-socket-activate":
    print("listening", flush=True)
    start("other", other)
    os.execvp(when, [when, "-l", f"127.0.0.1:{port}", sys.executable, __file__, "service"])
listener = socket.create_server(("127.0.0.1", int(port)))
print("listening", flush=True)
if when == "on-demand":
    select.select([listener], [], [])
os.dup2(listener.fileno(), 3, inheritable=True)
start("service", pass_fds=[3], env={**os.environ, "LISTEN_FDS": "1"})
start("other", other).wait()
