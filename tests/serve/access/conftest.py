"""A home with keys, and a service over it that follows them quickly."""

from __future__ import annotations

import http.client
import json
import time
from urllib.parse import urlsplit

import pytest

from modelmill.registry.registry import Registry
from modelmill.serve.access.access import Access
from modelmill.serve.access.keys import Keys
from modelmill.serve.server import Limits, Service
from modelmill.store.home import Home

QUICK = Limits(watch_seconds=0.02)


class Answer:
    def __init__(self, response):
        self.code = response.status
        self.headers = {key.lower(): value for key, value in response.getheaders()}
        self.body = response.read()

    @property
    def json(self):
        return json.loads(self.body)


@pytest.fixture
def place(tmp_path):
    return Home(tmp_path / "home")


@pytest.fixture
def keys(place):
    return Keys(place.database)


@pytest.fixture
def shelf(place, publish_flowers):
    """A registry with three models: two of tenants, and one of everyone."""
    registry = Registry(place.database, place.blobs)
    for name in ("acme-risk", "blue-risk", "flowers"):
        publish_flowers(registry, name)
    return registry


@pytest.fixture
def start(place, shelf):
    """Starts a service over the home; it ends with the test."""
    running = []

    def call(**settings):
        limits = settings.pop("limits", QUICK)
        access = Access(place.database, place.path, **settings.pop("access", {}))
        service = Service(shelf, limits=limits, access=access, **settings)
        running.append(service)
        return service.__enter__()

    yield call
    for service in running:
        service.close()


@pytest.fixture
def ask():
    """Sends one request to a URL; `key` goes as a bearer."""

    def call(service, method, path, body=None, key=None, headers=None):
        connection = http.client.HTTPConnection(urlsplit(service.url).netloc, timeout=20)
        sent = dict(headers or {})
        if key is not None:
            sent["Authorization"] = f"Bearer {key}"
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        try:
            connection.request(method, path, body, sent)
            return Answer(connection.getresponse())
        finally:
            connection.close()

    return call


@pytest.fixture
def eventually():
    """Whether something becomes true, in a generous time."""

    def call(check, seconds=20.0):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if check():
                return True
            time.sleep(0.02)
        return False

    return call
