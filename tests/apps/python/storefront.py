"""The shop's public service: a product and whether it is available."""

import os

import requests
from flask import Flask, jsonify

app = Flask(__name__)
inventory = requests.Session()


@app.get("/products/<int:number>")
def product(number):
    response = inventory.get(f"{os.environ['INVENTORY_URL']}/stock/{number}", timeout=10)
    if response.status_code == 404:
        return jsonify(error="no such product"), 404
    response.raise_for_status()
    stock = response.json()
    return jsonify(name=stock["name"], available=stock["pieces"] > 0)
