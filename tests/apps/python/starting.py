"""Starts programs and processes for its requests, each of which calls another service once."""

import os
import subprocess
import time
import urllib.request

from flask import Flask, request

app = Flask(__name__)
backend = os.environ.get("BACKEND_URL", "")
CURL = ["curl", "--silent", "--noproxy", "*"]


def url(number):
    return f"{backend}/a/{number}"


def fork(work):
    """Returns the id of a child process that does the work and ends."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    return child


def call(number):
    urllib.request.urlopen(url(number), timeout=30).read()


@app.get("/wait/<int:number>")
def wait(number):
    subprocess.run([*CURL, url(number)], stdout=subprocess.DEVNULL, check=True)
    return "done\n"


@app.get("/captured/<int:number>")
def captured(number):
    """Polls for two pipes."""
    return subprocess.run([*CURL, url(number)], capture_output=True, check=True).stdout


@app.get("/output/<int:number>")
def output(number):
    """Reads from one pipe."""
    return subprocess.check_output([*CURL, url(number)])


@app.get("/shell/<int:number>")
def shell(number):
    """Two generations: the shell waits for curl."""
    subprocess.run(f"curl --silent --noproxy '*' {url(number)} | cat; true", shell=True, stdout=subprocess.DEVNULL)
    return "done\n"


@app.get("/fork/<int:number>")
def forked(number):
    os.waitpid(fork(lambda: call(number)), 0)
    return "done\n"


@app.get("/daemon/<int:number>")
def daemon(number):
    """A child of a child goes on after the response."""

    def work():
        time.sleep(0.3)
        call(number)

    os.waitpid(fork(lambda: fork(work)), 0)
    return "started\n"


@app.get("/handed/<int:number>")
def handed(number):
    """Hands the caller's trace context on."""
    environment = {**os.environ, "TRACEPARENT": request.headers["traceparent"]}
    subprocess.run([*CURL, url(number)], stdout=subprocess.DEVNULL, check=True, env=environment)
    return "done\n"


@app.get("/slow")
def slow():
    time.sleep(0.2)
    return "at last\n"
