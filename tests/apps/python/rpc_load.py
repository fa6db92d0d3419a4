"""Makes unary calls of `shop.Cart/Get` with grpcio. Arguments: URL, how many, how many at once, over how many connections.

Prints how many nanoseconds each took. The threads share their connections.
"""

import sys
import threading
import time

import grpc

requests, streams, connections = map(int, sys.argv[2:])
address = sys.argv[1].removeprefix("http://")
numbers = iter(range(requests))
lock = threading.Lock()
failed = []


def call(method):
    while True:
        with lock:
            number = next(numbers, None)
        if number is None:
            return
        begin = time.monotonic_ns()
        try:
            method(b"%d" % number, timeout=60)
        except grpc.RpcError as error:
            failed.append(error)
            return
        took = time.monotonic_ns() - begin
        with lock:
            print(took)


# Otherwise channels to one address share a connection.
options = [("grpc.use_local_subchannel_pool", 1)]
channels = [grpc.insecure_channel(address, options=options) for _ in range(connections)]
methods = [channels[worker % connections].unary_unary("/shop.Cart/Get") for worker in range(streams)]
threads = [threading.Thread(target=call, args=(method,)) for method in methods]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
for channel in channels:
    channel.close()
assert not failed, failed[0]
