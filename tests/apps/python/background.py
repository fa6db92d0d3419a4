"""Works in the background and after its responses, beside requests that call Redis. Each kind of work has its own command."""

import os
import threading
import time

import redis
import requests
from flask import Flask, Response

app = Flask(__name__)
cache = redis.Redis.from_url(os.environ["REDIS_URL"])


def beat():
    beats = redis.Redis.from_url(os.environ["REDIS_URL"])
    while True:
        beats.setex("alive", 10, "yes")
        time.sleep(0.05)


threading.Thread(target=beat, daemon=True).start()


@app.get("/r/<int:number>")
def serve(number):
    cache.get(f"background:{number}")
    time.sleep(0.04)
    return f"{number}\n"


@app.get("/after/<int:calls>")
def after(calls):
    response = Response("done\n")
    response.call_on_close(lambda: [cache.strlen("alive") for _ in range(calls)])
    return response


@app.get("/loop")
def loop():
    """Starts a loop that goes on after the response."""

    def count():
        for _ in range(200):
            cache.incr("turns")
            time.sleep(0.002)

    threading.Thread(target=count).start()
    time.sleep(0.02)
    return "started\n"


@app.get("/streamed")
def streamed():
    def parts():
        yield "first\n"
        # The header has gone.
        time.sleep(0.01)
        yield f"{cache.exists('alive')}\n"

    return Response(parts())


@app.get("/retries")
def retries():
    session = requests.Session()
    retry = requests.adapters.Retry(total=3, status_forcelist=[503], backoff_factor=0)
    session.mount("http://", requests.adapters.HTTPAdapter(max_retries=retry))
    return session.get(os.environ["BACKEND_URL"] + "/flaky", timeout=30).text
