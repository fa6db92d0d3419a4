"""Prints what a client's socket does in many cases, after a first request on each connection. With the argument `enrolled` it first waits until
later requests arrive with a trace context. The server's end is in this process too."""

import array
import errno
import fcntl
import os
import re
import select
import socket
import struct
import sys
import tempfile
import termios
import threading
import time

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
RESPONSE = b"HTTP/1.1 204 No Content\r\n\r\n"
ADDED = re.compile(rb"traceparent: [0-9a-f-]{55}\r\n")
# include/uapi/linux/tcp.h, include/uapi/asm-generic/socket.h
TCP_INQ, SO_PEEK_OFF, SO_TIMESTAMPNS = 36, 42, 35
SIOCATMARK = 0x8905

listener = socket.create_server(("127.0.0.1", 0))


def head(server):
    received = b""
    while not received.endswith(b"\r\n\r\n"):
        received += server.recv(1)
    return received


def exchange(client, server):
    """Whether the request arrived with a trace context."""
    client.sendall(REQUEST)
    received = head(server)
    server.sendall(RESPONSE)
    readable(client)
    assert client.recv(100) == RESPONSE
    assert ADDED.sub(b"", received) == REQUEST, received
    return received != REQUEST


def connected():
    client = socket.socket()
    client.setblocking(False)
    client.connect_ex(listener.getsockname())
    server, _ = listener.accept()
    server.settimeout(10)
    select.select([], [client], [], 10)
    return client, server


def readable(client, seconds=10):
    return bool(select.select([client], [], [], seconds)[0])


def outcome(operation, *arguments):
    try:
        return operation(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]


def received(server, count):
    data = b""
    while len(data) < count and (part := server.recv(1 << 16)):
        data = ADDED.sub(b"", data + part)
    return data


def events(epoll, seconds=10):
    return [found for _, found in epoll.poll(seconds)]


def level_triggered(client, server):
    epoll = select.epoll()
    epoll.register(client, select.EPOLLIN)
    server.sendall(b"0123456789")
    return events(epoll), client.recv(4), events(epoll), client.recv(100), events(epoll, 0.01)


def edge_triggered(client, server):
    epoll = select.epoll()
    epoll.register(client, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)
    first = events(epoll)
    server.sendall(b"01234")
    second = events(epoll), events(epoll, 0.01)
    server.sendall(b"56789")
    return first, second, events(epoll), client.recv(100)


def peer_ends(client, server):
    epoll = select.epoll()
    epoll.register(client, select.EPOLLIN | select.EPOLLRDHUP)
    server.shutdown(socket.SHUT_WR)
    result = events(epoll), client.recv(10), client.recv(10)
    client.sendall(REQUEST)
    return result, received(server, len(REQUEST))


def client_ends(client, server):
    client.shutdown(socket.SHUT_WR)
    ended = server.recv(10)
    server.sendall(b"rest")
    return ended, readable(client), client.recv(10), outcome(client.send, b"x")


def both_end(client, server):
    epoll = select.epoll()
    epoll.register(client, select.EPOLLIN | select.EPOLLRDHUP)
    client.shutdown(socket.SHUT_WR)
    server.shutdown(socket.SHUT_WR)
    return events(epoll), client.recv(10)


def client_stops_reading(client, server):
    client.shutdown(socket.SHUT_RD)
    return client.recv(10), readable(client)


def reset(server):
    server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    server.close()


def peer_resets(client, server):
    reset(server)
    return readable(client), outcome(client.recv, 10), outcome(client.recv, 10), outcome(client.send, b"x")


def peer_resets_behind_data(client, server):
    server.sendall(b"lost")
    readable(client)
    reset(server)
    poll = select.poll()
    poll.register(client, select.POLLERR)
    return poll.poll(10000)[0][1], outcome(client.recv, 10), outcome(client.recv, 10)


def error_is_asked_for(client, server):
    reset(server)
    readable(client)
    return errno.errorcode[client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)], outcome(client.recv, 10)


def peeks(client, server):
    server.sendall(b"0123456789")
    readable(client)
    return client.recv(3, socket.MSG_PEEK), client.recv(20, socket.MSG_PEEK), client.recv(20)


def peeks_with_an_offset(client, server):
    client.setsockopt(socket.SOL_SOCKET, SO_PEEK_OFF, 2)
    server.sendall(b"0123456789")
    readable(client)
    return client.recv(3, socket.MSG_PEEK), client.recv(3, socket.MSG_PEEK), client.recv(20)


def waits_for_all(client, server):
    server.sendall(b"012")
    readable(client)
    return client.recv(10, socket.MSG_WAITALL | socket.MSG_DONTWAIT)


def discards(client, server):
    server.sendall(b"0123456789")
    readable(client)
    return client.recv_into(bytearray(4), 4, socket.MSG_TRUNC), client.recv(20)


def nothing_waits(client, server):
    return [outcome(client.recv, 10, flag | socket.MSG_DONTWAIT) for flag in (0, socket.MSG_PEEK, socket.MSG_ERRQUEUE)]


def urgent_data(client, server):
    epoll = select.epoll()
    epoll.register(client, select.EPOLLIN | select.EPOLLPRI)
    server.send(b"ab!", socket.MSG_OOB)
    urgent = events(epoll), client.recv(1, socket.MSG_OOB), client.recv(10)
    mark = array.array("i", [7])
    fcntl.ioctl(client, SIOCATMARK, mark)
    return urgent, mark[0], outcome(client.recv, 10, socket.MSG_DONTWAIT)


def urgent_data_in_line(client, server):
    client.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    server.send(b"ab!", socket.MSG_OOB)
    readable(client)
    return client.recv(10), outcome(client.recv, 10)


def low_water_mark(client, server):
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 10)
    server.sendall(b"01234")
    before = readable(client, 0.05)
    server.sendall(b"56789")
    return before, readable(client), client.recv(100)


def counts_in_control_messages(client, server):
    client.setsockopt(socket.IPPROTO_TCP, TCP_INQ, 1)
    server.sendall(b"0123456789")
    readable(client)
    data, control, flags, _ = client.recvmsg(4, 100)
    return data, control, flags


def time_stamps(client, server):
    client.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    server.sendall(b"0123456789")
    readable(client)
    data, control, flags, _ = client.recvmsg(20, 100)
    return data, [(level, kind, len(value)) for level, kind, value in control], flags


def several_buffers(client, server):
    buffers = [bytearray(3), bytearray(20)]
    server.sendall(b"0123456789")
    readable(client)
    return client.recvmsg_into(buffers)[0], buffers


def corked(client, server):
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
    client.sendall(REQUEST[:7])
    client.sendall(REQUEST[7:])
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
    return received(server, len(REQUEST))


def spliced_in(client, server):
    reader, writer = os.pipe()
    os.write(writer, REQUEST)
    return os.splice(reader, client.fileno(), len(REQUEST)), received(server, len(REQUEST))


def spliced_out(client, server):
    reader, writer = os.pipe()
    server.sendall(b"0123456789")
    readable(client)
    return os.splice(client.fileno(), writer, 100), os.read(reader, 100), outcome(os.splice, client.fileno(), writer, 100)


def from_a_file(client, server):
    with tempfile.TemporaryFile() as file:
        file.write(REQUEST)
        file.flush()
        return os.sendfile(client.fileno(), file.fileno(), 0, 1000), received(server, len(REQUEST))


def closes_with_unread_data(client, server):
    server.sendall(b"unread")
    readable(client)
    client.close()
    return outcome(server.recv, 10)


def closes(client, server):
    client.close()
    return server.recv(10)


def is_sent_to_forever(client, server):
    client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)
    body = bytes(range(256)) * 8192
    data = b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    # It still does not block.
    client.settimeout(10)
    sending = threading.Thread(target=client.sendall, args=(data,))
    sending.start()
    arrived = received(server, len(data))
    sending.join()
    return arrived == data


def has_a_full_buffer(client, server):
    client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4608)
    sent = client.send(b"POST / HTTP/1.1\r\nContent-Length: 100000000\r\n\r\n")
    while (count := outcome(client.send, b"x" * 3000, socket.MSG_DONTWAIT)) != "EAGAIN":
        sent += count
    epoll = select.epoll()
    epoll.register(client, select.EPOLLOUT)
    full = events(epoll, 0.01)
    return full, len(received(server, sent)) == sent, events(epoll)


def all_was_acknowledged(client, server):
    client.sendall(REQUEST)
    received(server, len(REQUEST))
    left = array.array("i", [7])
    by = time.monotonic() + 5
    while left[0] and time.monotonic() < by:
        fcntl.ioctl(client, termios.TIOCOUTQ, left)
    return left[0]


def another_descriptor(client, server):
    other = socket.socket(fileno=os.dup(client.fileno()))
    client.close()
    server.sendall(b"0123")
    readable(other)
    data = other.recv(10)
    other.sendall(REQUEST)
    return data, received(server, len(REQUEST))


def a_child_reads(client, server):
    server.sendall(b"0123")
    reader, writer = os.pipe()
    if os.fork() == 0:
        readable(client)
        os.write(writer, client.recv(10))
        os._exit(0)
    os.wait()
    return os.read(reader, 10)


def blocks_later(client, server):
    client.setblocking(True)
    threading.Timer(0.05, server.sendall, [b"late"]).start()
    return client.recv(10)


def gives_up_waiting(client, server):
    client.setblocking(True)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 50000))
    return outcome(client.recv, 10)


def is_case(value):
    code = getattr(value, "__code__", None)
    return code and code.co_varnames[: code.co_argcount] == ("client", "server") and value is not exchange


CASES = [value for value in list(globals().values()) if is_case(value)]


def stays_enrolled():
    client, server = connected()
    exchange(client, server)
    stays = exchange(client, server)
    client.close()
    server.close()
    return stays


if sys.argv[1:] == ["enrolled"]:
    begun = time.monotonic()
    while not stays_enrolled():
        assert time.monotonic() - begun < 20, "no later request has a trace context"
for case in CASES:
    client, server = connected()
    # The second one has a trace context if the socket has stayed enrolled.
    stays = [exchange(client, server), exchange(client, server)] == [True, True]
    assert stays == (sys.argv[1:] == ["enrolled"]), case.__name__
    print(case.__name__, case(client, server))
