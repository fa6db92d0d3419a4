"""Makes long gRPC calls of each streaming kind at once, and prints when each began and ended, in nanoseconds. Arguments: address,
then how many messages each has, 0.3 s apart."""

import json
import sys
import threading
import time

import grpc

channel = grpc.insecure_channel(sys.argv[1])
count = int(sys.argv[2])
grpc.channel_ready_future(channel).result()
times = {}


def messages():
    for number in range(count):
        time.sleep(0.3)
        yield b"item %d" % number


def measure(method, call):
    begin = time.time_ns()
    call()
    times[method] = [begin, time.time_ns()]


calls = {
    "Feed": lambda: list(channel.unary_stream("/shop.Cart/Feed")(b"%d" % count)),
    "Add": lambda: channel.stream_unary("/shop.Cart/Add")(messages()),
    "Chat": lambda: list(channel.stream_stream("/shop.Cart/Chat")(messages())),
}
threads = [threading.Thread(target=measure, args=call) for call in calls.items()]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
channel.close()
print(json.dumps(times))
