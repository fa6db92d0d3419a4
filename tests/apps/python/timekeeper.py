"""Asks another service, a cache and a database, and says when it did: what it measured is what its spans should say."""

import http.client
import json
import os
import time

import psycopg
import redis
from flask import Flask

app = Flask(__name__)
elsewhere = http.client.HTTPConnection(os.environ["ELSEWHERE"], timeout=30)
cache = redis.Redis.from_url(os.environ["REDIS_URL"])
database = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)


def waited():
    """Nanoseconds that this thread waited for a processor."""
    with open("/proc/thread-self/schedstat") as told:
        return int(told.read().split()[1])


def measured(what, call):
    before = waited()
    start = time.time_ns()
    call()
    end = time.time_ns()
    held_up = waited() - before
    times = {"start": start, "end": end, "held_up": {"secs": held_up // 10**9, "nanos": held_up % 10**9}}
    print("measured", json.dumps({"what": what, "times": times}), flush=True)


def ask(path):
    elsewhere.request("GET", path)
    elsewhere.getresponse().read()


@app.get("/r/<int:number>")
def errands(number):
    measured("http", lambda: ask(f"/a/{number}"))
    measured("redis", lambda: cache.get(f"errand:{number}"))
    measured("postgresql", lambda: database.execute("SELECT pg_sleep(0.003)").fetchone())
    return f"{number}\n"
