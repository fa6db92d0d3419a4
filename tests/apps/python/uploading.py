"""Makes requests with the library Requests, each on a connection of its own. Argument: a URL without a path."""

import sys

import requests

url = sys.argv[1]
OWN = {"Traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
requests.get(url + "/get", timeout=30).raise_for_status()
requests.post(url + "/post", data=bytes(range(256)) * 4096, timeout=30).raise_for_status()
requests.post(url + "/chunked", data=iter([b"one", b"two" * 1000, b"three"]), timeout=30).raise_for_status()
requests.get(url + "/own", headers=OWN, timeout=30).raise_for_status()
