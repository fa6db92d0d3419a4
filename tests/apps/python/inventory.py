"""How many of each product are in stock: stored in PostgreSQL, cached in Redis for a minute."""

import json
import os
import threading

import psycopg
import redis
from flask import Flask, jsonify

app = Flask(__name__)
cache = redis.Redis.from_url(os.environ["REDIS_URL"])
local = threading.local()


def database():
    if not hasattr(local, "connection"):
        local.connection = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)
    return local.connection


@app.get("/stock/<int:number>")
def stock(number):
    cached = cache.get(f"stock:{number}")
    if cached is not None:
        return jsonify(json.loads(cached))
    row = database().execute("SELECT name, pieces FROM products WHERE id = %s", (number,)).fetchone()
    if row is None:
        return jsonify(error="not in stock"), 404
    answer = {"name": row[0], "pieces": row[1]}
    cache.set(f"stock:{number}", json.dumps(answer), ex=60)
    return jsonify(answer)
