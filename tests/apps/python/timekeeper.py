"""Calls another service, a cache and a database, and logs the times of each call, to be compared with its span."""

import http.client
import json
import os
import time

import psycopg
import redis
from flask import Flask

app = Flask(__name__)
backend = http.client.HTTPConnection(os.environ["BACKEND_ADDRESS"], timeout=30)
cache = redis.Redis.from_url(os.environ["REDIS_URL"])
database = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)


def scheduling_delay():
    """Returns how many nanoseconds this thread was runnable and waited for a CPU."""
    with open("/proc/thread-self/schedstat") as schedstat:
        return int(schedstat.read().split()[1])


def measured(kind, call):
    before = scheduling_delay()
    start = time.time_ns()
    call()
    end = time.time_ns()
    delay = scheduling_delay() - before
    times = {"start": start, "end": end, "scheduling_delay": {"secs": delay // 10**9, "nanos": delay % 10**9}}
    print("measured", json.dumps({"kind": kind, "times": times}), flush=True)


def request(path):
    backend.request("GET", path)
    backend.getresponse().read()


@app.get("/r/<int:number>")
def serve(number):
    measured("http", lambda: request(f"/a/{number}"))
    measured("redis", lambda: cache.get(f"timekeeper:{number}"))
    measured("postgresql", lambda: database.execute("SELECT pg_sleep(0.003)").fetchone())
    return f"{number}\n"
