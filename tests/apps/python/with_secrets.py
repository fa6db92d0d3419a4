"""Puts secrets into every place where an application may put them: requests, statements, keys, errors and responses."""

import os

import psycopg
import redis
from flask import Flask, request

app = Flask(__name__)


@app.post("/store/<path:place>")
def store(place):
    secret = request.args["password"]
    cache = redis.Redis.from_url(os.environ["REDIS_URL"])
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as database:
        # Literals in the statement instead of parameters.
        database.execute(f"CREATE TEMPORARY TABLE secrets (word text UNIQUE, place text DEFAULT '{secret}-default')")
        database.execute(f"INSERT INTO secrets VALUES ('{secret}-literal', $${secret}-dollars$$)")
        database.execute("SELECT * FROM secrets WHERE word = %s", (f"{secret}-parameter",)).fetchall()
        for failing in (
            # The error's detail contains the value.
            f"INSERT INTO secrets VALUES ('{secret}-literal')",
            # The error's message contains the value.
            f"SELECT '{secret}-number'::int",
            f"SELECT missing FROM secrets /* {secret}-comment */",
        ):
            try:
                database.execute(failing)
            except psycopg.Error:
                pass
        with database.cursor().copy("COPY secrets (word) FROM STDIN") as copy:
            copy.write(f"{secret}-copied\n")
    cache.set(f"{secret}-key", f"{secret}-value")
    cache.eval(f"return '{secret}-script'", 0)
    for failing in (("AUTH", f"{secret}-auth"), ("INCR", f"{secret}-key")):
        try:
            cache.execute_command(*failing)
        except redis.RedisError:
            pass
    return f"{secret}-response: {request.get_data(as_text=True)}", {"Set-Cookie": f"session={secret}-set-cookie"}
