"""Calls another service twice for each request, and a cache and a database in between."""

import os
import threading

import psycopg
import redis
import requests
from flask import Flask, request

app = Flask(__name__)
backend = requests.Session()
backend.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=20))
cache = redis.Redis.from_url(os.environ["REDIS_URL"]) if "REDIS_URL" in os.environ else None
local = threading.local()


def database():
    if not hasattr(local, "connection"):
        local.connection = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)
    return local.connection


def call(path):
    backend.get(os.environ["BACKEND_URL"] + path, timeout=30).raise_for_status()


@app.route("/r/<int:number>", methods=["GET", "POST"])
def serve(number):
    request.get_data()
    call(f"/a/{number}")
    if cache is not None:
        cache.get(f"caller:{number}")
    if "DATABASE_URL" in os.environ:
        # The span's statement keeps names, but no literals.
        database().execute(f"SELECT 1 AS r{number}").fetchone()
    call(f"/b/{number}")
    return f"{number}\n"
