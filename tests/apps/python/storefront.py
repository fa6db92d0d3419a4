"""The shop's public face: a product, with how many of it are left."""

import os

import requests
from flask import Flask, jsonify

app = Flask(__name__)
inventory = requests.Session()


@app.get("/products/<int:number>")
def product(number):
    answer = inventory.get(f"{os.environ['INVENTORY_URL']}/stock/{number}", timeout=10)
    if answer.status_code == 404:
        return jsonify(error="no such product"), 404
    answer.raise_for_status()
    stock = answer.json()
    return jsonify(name=stock["name"], available=stock["pieces"] > 0)
