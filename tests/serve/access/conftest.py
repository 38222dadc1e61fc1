"""A home with keys, and a service over it that follows them quickly."""

from __future__ import annotations

import datetime
import http.client
import ipaddress
import json
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from modelmill.registry.registry import Registry
from modelmill.serve.access.access import Access
from modelmill.serve.access.keys import Keys
from modelmill.serve.access.tls import TlsFiles
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


DAY = datetime.timedelta(days=1)


class Authority:
    """Signs certificates, and writes them as PEM."""

    def __init__(self, folder, name):
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.path = folder / f"{name}.pem"
        made = self._builder(self.name, self.key).add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
        signed = made.add_extension(usage, True).sign(self.key, hashes.SHA256())
        self.path.write_bytes(signed.public_bytes(serialization.Encoding.PEM))

    def _builder(self, subject, key, days=2):
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 3 * DAY)
            .not_valid_after(now + (days - 1) * DAY)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), False)
        )

    def sign(self, name, days=2):
        """The paths of a certificate for this machine, and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName(
            [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        )
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        signed = self._builder(subject, key, days).add_extension(names, False).sign(self.key, hashes.SHA256())
        cert, private = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        cert.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return cert, private


@pytest.fixture
def make_authority(tmp_path):
    """Makes an authority of a name, which signs certificates."""
    return lambda name: Authority(tmp_path, name)


@pytest.fixture
def authority(make_authority):
    return make_authority("authority")


@pytest.fixture
def files(authority):
    """The certificate of the service, and its key."""
    return TlsFiles(*authority.sign("service"))
