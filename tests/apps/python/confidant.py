"""Is told secrets in every place where an application may put one, and uses them."""

import os

import psycopg
import redis
from flask import Flask, request

app = Flask(__name__)


@app.post("/tell/<path:place>")
def tell(place):
    secret = request.args["password"]
    cache = redis.Redis.from_url(os.environ["REDIS_URL"])
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as database:
        # Written into the statement, as one should not.
        database.execute(f"CREATE TEMPORARY TABLE told (word text UNIQUE, place text DEFAULT '{secret}-default')")
        database.execute(f"INSERT INTO told VALUES ('{secret}-literal', $${secret}-dollars$$)")
        database.execute("SELECT * FROM told WHERE word = %s", (f"{secret}-parameter",)).fetchall()
        for failing in (
            # The error's detail tells the value.
            f"INSERT INTO told VALUES ('{secret}-literal')",
            # So does its message.
            f"SELECT '{secret}-number'::int",
            f"SELECT missing FROM told /* {secret}-comment */",
        ):
            try:
                database.execute(failing)
            except psycopg.Error:
                pass
        with database.cursor().copy("COPY told (word) FROM STDIN") as copy:
            copy.write(f"{secret}-copied\n")
    cache.set(f"{secret}-key", f"{secret}-value")
    cache.eval(f"return '{secret}-script'", 0)
    for failing in (("AUTH", f"{secret}-auth"), ("INCR", f"{secret}-key")):
        try:
            cache.execute_command(*failing)
        except redis.RedisError:
            pass
    return f"{secret}-response: {request.get_data(as_text=True)}", {"Set-Cookie": f"session={secret}-set-cookie"}
