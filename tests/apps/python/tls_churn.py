"""Opens TLS connections at even intervals, sends one request on each, and prints how many.

Arguments: an unused port, server's port, connections a second, seconds, the file that says that the load may begin, folder of
the certificate.
"""

import http.client
import os
import ssl
import sys
import threading
import time

SERVER, RATE, SECONDS, GO = int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
THREADS = 4

context = ssl.create_default_context(cafile=sys.argv[6] + "/cert.pem")
failed = []


def request():
    connection = http.client.HTTPSConnection("localhost", SERVER, context=context)
    connection.request("GET", "/r/1")
    response = connection.getresponse()
    response.read()
    assert response.status == 200, response.status
    connection.close()


def work(first):
    try:
        for number in range(first, RATE * SECONDS, THREADS):
            # A late one follows at once, so that the rate is kept.
            time.sleep(max(0, start + number / RATE - time.monotonic()))
            request()
    except Exception as error:
        failed.append(error)


print("listening", flush=True)
while not os.path.exists(GO):
    time.sleep(0.005)
start = time.monotonic()
workers = [threading.Thread(target=work, args=(first,)) for first in range(THREADS)]
for worker in workers:
    worker.start()
for worker in workers:
    worker.join()
print(f"failed {failed}" if failed else f"done {RATE * SECONDS}", flush=True)
time.sleep(3600)
