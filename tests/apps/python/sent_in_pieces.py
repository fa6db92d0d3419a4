"""Sends requests in random pieces to a server that sends all bytes back, and compares them. Arguments: port, seed, number
of requests or the file whose appearance ends them, and `all` if lines in all formats are added. Prints one line for each kind of request and outcome, with their number."""

import collections
import fcntl
import os
import random
import re
import select
import socket
import struct
import sys
import tempfile
import termios
import time

port, seed, limit = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
rng = random.Random(seed)
T, S = rb"([0-9a-f]{32})", rb"([0-9a-f]{16})"
TRACEPARENT = rb"traceparent: 00-" + T + rb"-" + S + rb"-[0-9a-f]{2}\r\n"
OTHERS_FORMATS = (
    rb"b3: \1-\2-1\r\nX-B3-TraceId: \1\r\nX-B3-SpanId: \2\r\nX-B3-Sampled: 1\r\nuber-trace-id: \1:\2:0:1\r\n"
    rb"ot-tracer-traceid: [0-9a-f]{16}\r\not-tracer-spanid: \2\r\not-tracer-sampled: true \r\n"
    rb"X-Amzn-Trace-Id: Root=1-[0-9a-f]{8}-[0-9a-f]{24};Parent=\2;Sampled=1\r\n"
)
is_all = sys.argv[4:] == ["all"]
ADDED = re.compile(TRACEPARENT + OTHERS_FORMATS if is_all else TRACEPARENT)
ADDED_BYTES = 485 if is_all else 70
OWN = {
    b"traceparent": b": 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    b"b3": b": 0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
    b"x-b3-traceid": b": 0af7651916cd43dd8448eb211c80319c",
    b"uber-trace-id": b": 0af7651916cd43dd8448eb211c80319c:b7ad6b7169203331:0:1",
    b"ot-tracer-traceid": b": 8448eb211c80319c",
}
NAMES = [b"X-Trace", b"T", b"tracep", b"Traceparen", b"TE", b"Accept", b"tracestate", b"B", b"X-B3-Sampled", b"X", b"Uber-Trace"]
METHODS = [b"GET", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"HEAD"]
OTHERS = [
    b"\x16\x03\x01" + bytes(range(200)),
    b"CONNECT a:1 HTTP/1.1\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"*1\r\n$4\r\nPING\r\n",
    b"GET x\r\n\r\n",
    b"OPTIONS x RTSP/1.0\r\n\r\n",
    b"get / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\nHost: x\n\n",
    b"GET / HTTP/1.1\r\nHost: x\n\r\n",
]


def text(alphabet, most):
    return bytes(rng.choices(alphabet, k=rng.randint(0, most)))


def head(own=False, size=0):
    version = rng.choice([b"1", b"0"])
    lines = [rng.choice(METHODS) + b" /" + text(b"abc/?=&%20", 60) + b" HTTP/1." + version, b"Host: x"]
    for _ in range(rng.randint(0, 8)):
        lines.append(rng.choice(NAMES) + b": " + text(b"abcdefgh ;,=traceparent:", 90))
    while sum(map(len, lines)) < size:
        lines.append(b"Cookie: " + text(b"abcdefgh=;", 900))
    if own:
        own_name = rng.choice(list(OWN))
        name = bytes(byte ^ rng.choice([0, 0x20]) if byte > 64 else byte for byte in own_name)
        lines.insert(rng.randint(1, len(lines)), name + OWN[own_name])
    return b"\r\n".join(lines) + b"\r\n\r\n"


def request():
    """Kind, head, what follows, and whether a line is added: None if both are right."""
    kind = rng.choice(["plain"] * 6 + ["own"] * 2 + ["other", "body", "large", "chunked", "pipelined", "long", "small_buffer"])
    if kind == "other":
        return kind, b"", rng.choice(OTHERS), False
    if kind == "own":
        return kind, head(own=True), b"", False
    if kind == "long":
        # Not those that are near to what servers accept.
        block = head(size=rng.randint(4000, 60000))
        return kind, block, b"", len(block) // 4096 == (len(block) + ADDED_BYTES) // 4096
    block = head()
    body = {
        "plain": lambda: b"",
        "body": lambda: os.urandom(rng.randint(0, 20000)),
        "small_buffer": lambda: os.urandom(rng.randint(0, 20000)),
        "large": lambda: os.urandom(rng.randint(100000, 1 << 20)),
        "chunked": lambda: b"5\r\nhello\r\n0\r\n\r\n",
        "pipelined": lambda: head() + head(own=True),
    }[kind]()
    return kind, block, body, None if kind == "small_buffer" else True


def pieces(data):
    count = rng.choice([0, 0, 0, 1, 1, 2, 3, 10, -1])
    if count < 0 and len(data) < 1500:
        return [data[i : i + 1] for i in range(len(data))]
    within = min(len(data), rng.choice([len(data), 800]))
    cuts = [0, *sorted(rng.randint(0, within) for _ in range(max(count, 0))), len(data)]
    return [data[a:b] for a, b in zip(cuts, cuts[1:]) if a < b]


def send(connection, data):
    how = rng.choice(["send", "send", "vectored", "more", "sendfile"])
    if how == "send":
        connection.sendall(data)
    elif how == "more":
        view = memoryview(data)
        while view:
            view = view[connection.send(view, socket.MSG_MORE) :]
    elif how == "vectored":
        step = max(1, len(data) // rng.randint(1, 9))
        sent = connection.sendmsg([data[i : i + step] for i in range(0, len(data), step)])
        connection.sendall(data[sent:])
    else:
        with tempfile.TemporaryFile() as file:
            file.write(data)
            file.flush()
            sent = 0
            while sent < len(data):
                sent += os.sendfile(connection.fileno(), file.fileno(), sent, len(data) - sent)


outcomes = collections.Counter()


def exchange(kind, data):
    connection = socket.socket()
    if kind == "small_buffer":
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, rng.choice([1, 4096, 8192]))
    if rng.random() < 0.3:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.connect(("127.0.0.1", port))
    for piece in pieces(data):
        send(connection, piece)
    connection.shutdown(socket.SHUT_WR)
    select.select([connection], [], [], 30)
    ready, delay = time.monotonic(), 0
    while not (waiting := struct.unpack("i", fcntl.ioctl(connection, termios.FIONREAD, b"\0" * 4))[0]):
        delay = time.monotonic() - ready
        if delay > 1:
            break
    if waiting and delay > 0:
        print(f"{kind}: FIONREAD answered 0 for {1000 * delay:.0f} ms", file=sys.stderr)
        outcomes[kind, "bytes_waiting_late"] += 1
    received = []
    while part := connection.recv(1 << 20):
        received.append(part)
    connection.close()
    return waiting, b"".join(received)


number = 0
while number < int(limit) if limit.isdigit() else not os.path.exists(limit):
    number += 1
    kind, block, body, added = request()
    waiting, received = exchange(kind, block + body)
    end = len(block) - 2
    if waiting == 0:
        outcome = "no_bytes_waiting"
    elif received == block + body:
        outcome = "same" if added is not True else "not_added"
    elif (
        added is not False
        and received[:end] + received[end + ADDED_BYTES :] == block + body
        and ADDED.fullmatch(received[end : end + ADDED_BYTES])
    ):
        outcome = "added"
    else:
        outcome = "broken"
        print(f"{kind}: {(block + body)[:500]} arrived as {received[:600]}", file=sys.stderr)
    outcomes[kind, outcome] += 1
for (kind, outcome), count in sorted(outcomes.items()):
    print(kind, outcome, count)
