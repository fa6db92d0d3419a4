"""Sends requests in random pieces on connections that it keeps, to a server that repeats them, and compares what arrived. Arguments: port,
seed, and number of connections. Prints one line for each kind of request and outcome, with their number."""

import collections
import os
import random
import re
import socket
import sys

port, seed, limit = (int(argument) for argument in sys.argv[1:])
rng = random.Random(seed)
ADDED = re.compile(rb"traceparent: 00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}\r\n")
ADDED_BYTES = 70
OWN = b"TraceParent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
# Fields behind which no later request is looked for.
LAST = [b"Expect: 100-continue", b"Upgrade: websocket", b"X: y\r\n folded: z"]


def request(kind):
    """What is sent, and the bytes of its header block."""
    lines = [b"POST /" + bytes(rng.choices(b"abc/?=&%20", k=rng.randint(0, 60))) + b" HTTP/1.1", b"Host: x"]
    for _ in range(rng.randint(0, 8)):
        lines.append(b"X-" + rng.choice([b"Content-Length", b"Transfer", b"A"]) + b": " + bytes(rng.choices(b"abc 0123;,", k=rng.randint(0, 90))))
    body = b""
    if kind in ("body", "large", "misleading", "own", "last"):
        most = 1 << 20 if kind == "large" else 20000
        body = os.urandom(rng.randint(0, most))
        if kind == "misleading":
            body = b"GET / HTTP/1.1\r\nHost: y\r\n\r\n" * rng.randint(1, 300)
        name = rng.choice([b"Content-Length", b"content-length", b"CONTENT-LENGTH"])
        lines.insert(rng.randint(1, len(lines)), name + b":" + rng.choice([b"", b" ", b" \t"]) + str(len(body)).encode())
    if kind == "chunked":
        body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in [b"GET / HTTP/1.1\r\n\r\n" * 3, b"y" * 9]) + b"0\r\n\r\n"
        lines.append(b"Transfer-Encoding: chunked")
    if kind == "own":
        lines.insert(rng.randint(1, len(lines)), OWN)
    if kind == "last":
        lines.insert(1, rng.choice(LAST))
    head = b"\r\n".join(lines) + b"\r\n\r\n"
    return head, body


def pieces(data):
    count = rng.choice([0, 0, 0, 1, 2, 10, -1])
    if count < 0 and len(data) < 1500:
        return [data[i : i + 1] for i in range(len(data))]
    within = min(len(data), rng.choice([len(data), 800]))
    cuts = [0, *sorted(rng.randint(0, within) for _ in range(max(count, 0))), len(data)]
    return [data[a:b] for a, b in zip(cuts, cuts[1:]) if a < b]


def read_exactly(connection, count):
    received = bytearray()
    while len(received) < count:
        part = connection.recv(count - len(received))
        if not part:
            raise EOFError
        received += part
    return bytes(received)


def response(connection):
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += read_exactly(connection, 1)
        if head == b"HTTP/1.1 100 Continue\r\n\r\n":
            head = b""
    return read_exactly(connection, int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0]))


def unchunked(body):
    content = b""
    while not body.startswith(b"0\r\n"):
        size, body = body.split(b"\r\n", 1)
        content, body = content + body[: int(size, 16)], body[int(size, 16) + 2 :]
    return content


outcomes = collections.Counter()


def judge(kind, place, sent, received):
    head, body = sent
    if kind == "chunked":
        body = unchunked(body)
    end = len(head) - 2
    if received == head + body:
        outcome = "same"
    elif received[:end] + received[end + ADDED_BYTES :] == head + body and ADDED.fullmatch(received[end : end + ADDED_BYTES]):
        outcome = "added"
    else:
        outcome = "broken"
        print(f"{kind}: {(head + body)[:500]} arrived as {received[:600]}", file=sys.stderr)
    outcomes[f"{place}_{kind}", outcome] += 1


KINDS = ["plain"] * 4 + ["body", "misleading", "own"] * 2 + ["large", "chunked", "last"]
for _ in range(limit):
    # With a timeout, the socket never blocks for the kernel.
    connection = socket.create_connection(("127.0.0.1", port), 30)
    is_first, has_ended = True, False
    for _ in range(rng.randint(2, 8)):
        kinds = [rng.choice(KINDS) for _ in range(rng.choice([1, 1, 1, 1, 3]))]
        batch = [request(kind) for kind in kinds]
        for piece in pieces(b"".join(head + body for head, body in batch)):
            connection.sendall(piece, rng.choice([0, 0, 0, socket.MSG_MORE]))
        # Nothing may stay in the socket.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for index, (kind, sent) in enumerate(zip(kinds, batch)):
            place = "behind" if has_ended else "pipelined" if index else "first" if is_first else "later"
            judge(kind, place, sent, response(connection))
            is_first, has_ended = False, has_ended or kind in ("chunked", "last")
    connection.close()
for (kind, outcome), count in sorted(outcomes.items()):
    print(kind, outcome, count)
