"""Asks a service for its pages, and reads what they refer to."""

from __future__ import annotations

import urllib.error
import urllib.request
from html.parser import HTMLParser


def get(url, method="GET", accept="text/html,*/*;q=0.8"):
    """Code, headers and text of an answer, as a browser asks for it, or with another `Accept`."""
    try:
        request = urllib.request.Request(url, headers={"Accept": accept}, method=method)
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status, dict(response.headers.items()), response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers.items()), error.read().decode()


class Page(HTMLParser):
    """What a page refers to, and how its parts are named."""

    def __init__(self, text):
        super().__init__()
        self.links, self.inline, self.labels, self.ids = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.links += [given[name] for name in ("href", "src") if name in given]
        self.inline += [name for name in given if name.startswith("on") or name == "style"]
        if tag in ("script", "style") and "src" not in given:
            self.inline.append(tag)
        self.labels += [given[name] for name in ("aria-labelledby", "for") if name in given]
        if "id" in given:
            self.ids.append(given["id"])
