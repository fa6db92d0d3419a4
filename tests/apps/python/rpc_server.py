"""A gRPC server with a method of each kind. Arguments: port."""

import sys
import threading
import time
from concurrent import futures

import grpc


def get(request, context):
    return b"cart of " + request


def watch(request, context):
    for number in range(3):
        yield b"item %d" % number


def add(requests, context):
    return b"%d" % sum(1 for _ in requests)


def chat(requests, context):
    yield from requests


def missing(request, context):
    context.abort(grpc.StatusCode.NOT_FOUND, "s3cret")


def slow(request, context):
    time.sleep(0.5)
    return b""


def feed(request, context):
    for number in range(int(request)):
        time.sleep(0.3)
        yield b"item %d" % number


def hang(request, context):
    print("hangs")
    time.sleep(60)
    return b""


def break_off(request, context):
    yield b"item"
    context.abort(grpc.StatusCode.DATA_LOSS, "s3cret")


def leave(request, context):
    # It answers what is open, and sends GOAWAY.
    threading.Thread(target=server.stop, args=(30,)).start()
    return b""


METHODS = {
    "/shop.Cart/Get": grpc.unary_unary_rpc_method_handler(get),
    "/shop.Cart/Watch": grpc.unary_stream_rpc_method_handler(watch),
    "/shop.Cart/Add": grpc.stream_unary_rpc_method_handler(add),
    "/shop.Cart/Chat": grpc.stream_stream_rpc_method_handler(chat),
    "/shop.Cart/Missing": grpc.unary_unary_rpc_method_handler(missing),
    "/shop.Cart/Slow": grpc.unary_unary_rpc_method_handler(slow),
    "/shop.Cart/Feed": grpc.unary_stream_rpc_method_handler(feed),
    "/shop.Cart/Break": grpc.unary_stream_rpc_method_handler(break_off),
    "/shop.Cart/Leave": grpc.unary_unary_rpc_method_handler(leave),
    "/shop.Cart/Hang": grpc.unary_unary_rpc_method_handler(hang),
}


class Handler(grpc.GenericRpcHandler):
    def service(self, details):
        return METHODS.get(details.method)


server = grpc.server(futures.ThreadPoolExecutor(8), handlers=[Handler()])
server.add_insecure_port("127.0.0.1:" + sys.argv[1])
server.start()
print("listening")
server.wait_for_termination()
