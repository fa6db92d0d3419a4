"""A worker that serves nothing: it calls Redis and another service for so many seconds."""

import os
import sys
import time

import redis
import requests

cache = redis.Redis.from_url(os.environ["REDIS_URL"])
backend = requests.Session()
until = time.monotonic() + float(sys.argv[2])
print("listening")
calls = 0
while time.monotonic() < until:
    cache.get("job")
    backend.get(os.environ["BACKEND_URL"] + "/job", timeout=30).raise_for_status()
    calls += 2
    time.sleep(0.01)
print(f"done {calls}")
