"""One route for each behaviour of an HTTP server that the tests need."""

import time

from flask import Flask, Response, abort, request

app = Flask(__name__)


@app.get("/hello")
def hello():
    return "hello\n"


@app.get("/items/<int:number>")
def item(number):
    return f"item {number}\n"


@app.get("/slow/<int:milliseconds>")
def slow(milliseconds):
    time.sleep(milliseconds / 1000)
    return "at last\n"


@app.get("/status/<int:code>")
def status(code):
    if code < 400:
        return "", code
    abort(code)


@app.get("/boom")
def boom():
    raise RuntimeError("boom")


@app.get("/page")
def page():
    response = Response("a page\n")
    response.set_etag("one")
    return response.make_conditional(request)


@app.get("/fields/<int:fields>/<int:length>")
def fields(fields, length):
    return "many fields\n", {f"X-Field-{number}": "x" * length for number in range(fields)}


@app.get("/stream/<int:chunks>/<int:milliseconds>")
def stream(chunks, milliseconds):
    def pieces():
        for number in range(chunks):
            yield f"chunk {number}\n"
            time.sleep(milliseconds / 1000)

    return Response(pieces(), mimetype="text/plain")


@app.post("/upload")
def upload():
    return f"{len(request.get_data())}\n"
