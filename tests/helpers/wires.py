"""Connections over which tests say HTTP themselves, byte by byte."""

from __future__ import annotations

import json
import socket
from urllib.parse import urlsplit

BODY = json.dumps(
    {
        "id": "7",
        "inputs": [
            {"name": "length", "datatype": "FP32", "shape": [2], "data": [3, 1]},
            {"name": "width", "datatype": "FP32", "shape": [2], "data": [1, 3]},
        ],
    }
).encode()
PATH = "/v2/models/flowers/infer"


def request(body=BODY, path=PATH, **headers):
    lines = [f"POST {path} HTTP/1.1", "host: localhost", f"content-length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Wire:
    """A connection that is read answer by answer."""

    def __init__(self, url):
        parts = urlsplit(url)
        self.socket = socket.create_connection((parts.hostname, parts.port), timeout=20)
        self.file = self.socket.makefile("rb")

    def send(self, data):
        self.socket.sendall(data)

    def answer(self):
        status = int(self.file.readline().split()[1])
        headers = {}
        while (line := self.file.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        return status, headers, self.file.read(int(headers["content-length"]))
