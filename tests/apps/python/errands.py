"""Asks another service twice, and a cache and a database in between, on behalf of each request."""

import os
import threading

import psycopg
import redis
import requests
from flask import Flask, request

app = Flask(__name__)
elsewhere = requests.Session()
elsewhere.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=20))
cache = redis.Redis.from_url(os.environ["REDIS_URL"]) if "REDIS_URL" in os.environ else None
local = threading.local()


def database():
    if not hasattr(local, "connection"):
        local.connection = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)
    return local.connection


def ask(path):
    elsewhere.get(os.environ["ELSEWHERE_URL"] + path, timeout=30).raise_for_status()


@app.route("/r/<int:number>", methods=["GET", "POST"])
def errands(number):
    request.get_data()
    ask(f"/a/{number}")
    if cache is not None:
        cache.get(f"errand:{number}")
    if "DATABASE_URL" in os.environ:
        # A name stays in what is told of a statement; a number would not.
        database().execute(f"SELECT 1 AS r{number}").fetchone()
    ask(f"/b/{number}")
    return f"{number}\n"
