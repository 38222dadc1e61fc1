"""TLS and mutual TLS: who is let in, and how certificates change while the service runs."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
from urllib.parse import urlsplit

import pytest
from cryptography.hazmat.primitives import serialization
from patience import eventually

from modelmill.client import Client
from modelmill.errors import OutOfBounds, UsageError, WorkError
from modelmill.serve.access.tls import Tls, TlsFiles, files_of
from modelmill.serve.rpc.frames import PREFACE, SETTINGS


def call(service, context, path="/v2/health/live"):
    """The answer to a request over a new connection, and the subject of the certificate that the service showed."""
    parts = urlsplit(service.url)
    connection = http.client.HTTPSConnection("127.0.0.1", parts.port, context=context, timeout=20)
    try:
        connection.request("GET", path)
        shown = dict(part[0] for part in connection.sock.getpeercert()["subject"])["commonName"]
        return json.loads(connection.getresponse().read()), shown
    finally:
        connection.close()


def trusting(authority, *client):
    context = ssl.create_default_context(cafile=authority.path)
    if client:
        context.load_cert_chain(*client)
    return context


def test_connections_are_encrypted_and_the_url_says_so(start, files, authority, make_authority):
    service = start(access={"tls": files})
    assert service.url.startswith("https://127.0.0.1:")
    assert call(service, trusting(authority)) == ({"live": True}, "service")
    other = make_authority("other")
    with pytest.raises(ssl.SSLCertVerificationError):
        call(service, trusting(other))
    with Client(service.url, ca_file=authority.path) as client:
        assert client.predict("flowers", [[3, 1]])["label"].tolist() == ["long"]


def test_old_versions_of_the_protocol_are_refused(start, files, authority):
    service = start(access={"tls": files})
    for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
        context = trusting(authority)
        with pytest.warns(DeprecationWarning, match="TLSv1"):
            context.minimum_version = version
        with pytest.warns(DeprecationWarning, match="TLSv1"):
            context.maximum_version = version
        context.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.raises(ssl.SSLError):
            call(service, context)


def test_plain_http_on_the_port_is_no_answer_and_no_end(start, files, authority):
    service = start(access={"tls": files})
    connection = http.client.HTTPConnection("127.0.0.1", urlsplit(service.url).port, timeout=20)
    connection.request("GET", "/v2")
    with pytest.raises((http.client.HTTPException, OSError)):
        connection.getresponse()
    connection.close()
    assert call(service, trusting(authority))[0] == {"live": True}


def test_clients_show_a_certificate_of_their_authority(start, authority, make_authority):
    clients = make_authority("clients")
    strangers = make_authority("strangers")
    service = start(host="0.0.0.0", access={"tls": TlsFiles(*authority.sign("service"), clients.path)})
    assert call(service, trusting(authority, *clients.sign("alice")))[0] == {"live": True}
    assert call(service, trusting(authority, *clients.sign("again")), "/v2")[0]["name"] == "modelmill"  # without a key
    for wrong in ((), strangers.sign("mallory"), clients.sign("late", days=0)):
        with pytest.raises((ssl.SSLError, OSError, http.client.HTTPException)):
            call(service, trusting(authority, *wrong))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_our_client_shows_its_certificate_and_says_how_to_where_it_has_none(
    start, authority, make_authority, tmp_path, version
):
    clients, strangers = make_authority("clients"), make_authority("strangers")
    service = start(access={"tls": TlsFiles(*authority.sign("service"), clients.path)})
    alice = clients.sign("alice")
    both = tmp_path / "both.pem"
    both.write_bytes(alice[0].read_bytes() + alice[1].read_bytes())
    for cert in (alice, both):
        with Client(service.url, ca_file=authority.path, cert=cert) as client:
            client._tls.context.maximum_version = version
            assert client.predict("flowers", [[3, 1]])["label"].tolist() == ["long"]
    for cert in (None, strangers.sign("mallory")):
        with Client(service.url, ca_file=authority.path, cert=cert) as client:
            client._tls.context.maximum_version = version
            with pytest.raises(WorkError, match=r"certificate.*cert=\(FILE, FILE\)"):
                client.models()
            assert not client.ready()


def test_our_client_says_whom_it_does_not_trust_and_which_files_cannot_be_used(start, files, authority, tmp_path):
    service = start(access={"tls": files})
    with Client(service.url) as client, pytest.raises(WorkError, match=r"not trusted: .*ca_file=FILE"):
        client.models()
    with Client(service.url.replace("https", "http")) as client, pytest.raises(WorkError):
        client.models()
    with pytest.raises(OutOfBounds, match=r"ca_file=.*absent.pem: cannot be used: No such file"):
        Client(service.url, ca_file=tmp_path / "absent.pem")
    with pytest.raises(OutOfBounds, match=r"cert=\(.*service.pem, .*authority.pem\): cannot be used"):
        Client(service.url, ca_file=authority.path, cert=(files.cert, authority.path))
    with pytest.raises(OutOfBounds, match=r"not encrypted. Write https"):
        Client("http://127.0.0.1:1", cert=(files.cert, files.key))


def test_certificates_are_read_anew_and_bad_ones_change_nothing(
    start, authority, files, tmp_path, capsys, make_authority
):
    clients, others = make_authority("clients"), make_authority("others")
    ca = tmp_path / "ca.pem"
    ca.write_bytes(clients.path.read_bytes())
    service = start(access={"tls": TlsFiles(files.cert, files.key, ca)})
    alice = trusting(authority, *clients.sign("alice"))
    bob = trusting(authority, *others.sign("bob"))
    parts = urlsplit(service.url)
    kept = http.client.HTTPSConnection("127.0.0.1", parts.port, context=alice, timeout=20)
    kept.request("GET", "/v2/health/live")
    assert kept.getresponse().read()
    cert, key = authority.sign("renewed")
    files.cert.write_bytes(cert.read_bytes())
    service.server.reload()  # the key is still the old one's
    assert "stay as they were" in capsys.readouterr().err
    assert call(service, alice)[1] == "service"
    files.key.write_bytes(key.read_bytes())
    ca.write_bytes(others.path.read_bytes())
    service.server.reload()
    assert call(service, bob)[1] == "renewed"
    with pytest.raises((ssl.SSLError, OSError, http.client.HTTPException)):
        call(service, alice)
    kept.request("GET", "/v2/health/live")  # what is open stays open
    assert kept.getresponse().status == 200
    kept.close()
    files.cert.unlink()
    service.server.reload()
    assert "cannot be read" in capsys.readouterr().err
    assert call(service, bob)[1] == "renewed"


REQUESTS = {
    "http/1.1": b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    "h2": PREFACE + bytes([0, 0, 0, SETTINGS, 0, 0, 0, 0, 0]),
}


def entered(service, protocol, context, session=None):
    """The first bytes of an answer on one of the ports, and what the client may resume its next connection by."""
    url = service.grpc_url if protocol == "h2" else service.url
    port = int(url.rpartition(":")[2])
    with (
        socket.create_connection(("127.0.0.1", port), timeout=20) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1", session=session) as connection,
    ):
        connection.sendall(REQUESTS[protocol])
        answer = connection.recv(15)
        if not answer:
            raise ConnectionResetError("nothing came")
        found = connection.session
        with contextlib.suppress(OSError):
            connection.unwrap()  # a session of TLS 1.2 is kept where its connection was ended well
        return answer, found, connection.session_reused


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("protocol", ["http/1.1", "h2"])
def test_a_client_whose_authority_was_withdrawn_resumes_nothing(
    start, authority, files, tmp_path, make_authority, protocol, version
):
    clients, others = make_authority("clients"), make_authority("others")
    ca = tmp_path / "ca.pem"
    ca.write_bytes(clients.path.read_bytes())
    service = start(access={"tls": TlsFiles(files.cert, files.key, ca)}, grpc_port=0)
    alice = trusting(authority, *clients.sign("alice"))
    alice.minimum_version = alice.maximum_version = version
    alice.set_alpn_protocols([protocol])
    answer, session, _ = entered(service, protocol, alice)
    assert entered(service, protocol, alice, session)[0] == answer
    assert session is None or not session.has_ticket
    ca.write_bytes(others.path.read_bytes())
    service.server.reload()
    with pytest.raises((ssl.SSLError, ConnectionError)):
        entered(service, protocol, alice, session)
    bob = trusting(authority, *others.sign("bob"))
    bob.set_alpn_protocols([protocol])
    assert entered(service, protocol, bob)[0] == answer


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_whoever_needs_no_certificate_may_resume(start, files, authority, version):
    service = start(access={"tls": files})
    anyone = trusting(authority)
    anyone.minimum_version = anyone.maximum_version = version
    session = entered(service, "http/1.1", anyone)[1]
    assert entered(service, "http/1.1", anyone, session)[2]
    service.server.reload()
    assert not entered(service, "http/1.1", anyone, session)[2]


@pytest.mark.parametrize("broken", ["missing", "empty", "text", "swapped", "foreign"])
def test_files_that_cannot_be_used_are_refused_in_words(files, authority, broken):
    if broken == "missing":
        files.cert.unlink()
    elif broken == "foreign":
        files.key.write_bytes(authority.sign("another")[1].read_bytes())
    elif broken == "swapped":
        files = TlsFiles(files.key, files.cert)
    else:
        files.cert.write_bytes(b"" if broken == "empty" else b"no certificate")
    with pytest.raises(WorkError, match="cannot be") as refused:
        Tls(files)
    assert "_ssl.c" not in str(refused.value)


def test_an_authority_that_is_none_is_refused_in_words(files, tmp_path):
    ca = tmp_path / "ca.pem"
    for text in ("", "garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
        ca.write_text(text)
        with pytest.raises(WorkError, match=r"ca.pem: cannot be used: .*authority as PEM") as refused:
            Tls(TlsFiles(files.cert, files.key, ca))
        assert "_ssl.c" not in str(refused.value)


def test_a_key_with_a_password_is_refused_without_asking_anyone(files, authority):
    key = serialization.load_pem_private_key(files.key.read_bytes(), None)
    files.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(WorkError, match="without a password"):
        Tls(files)


def test_one_file_without_the_others_is_a_wrong_command():
    for given in (("a", None, None), (None, "a", None), (None, None, "a")):
        with pytest.raises(UsageError, match="--tls-"):
            files_of(*given)
    assert files_of(None, None, None) is None


@contextlib.contextmanager
def process_of(place, *command):
    """A service as a process, and the first thing that it says."""
    process = subprocess.Popen(
        [sys.executable, "-m", "modelmill.cli", "serve", "flowers", "--port", "0", "--no-grpc", *map(str, command)],
        env={**os.environ, "MODELMILL_HOME": str(place.path)},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process, process.stderr.readline()
    finally:
        process.kill()
        process.communicate()


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_sighup_reads_the_certificates_of_a_process(shelf, place, authority, files):
    with process_of(place, "--tls-cert", files.cert, "--tls-key", files.key) as (process, line):
        assert "https://127.0.0.1:" in line
        service = type("At", (), {"url": line.split()[2]})
        assert call(service, trusting(authority))[1] == "service"
        cert, key = authority.sign("renewed")
        files.cert.write_bytes(cert.read_bytes())
        files.key.write_bytes(key.read_bytes())
        process.send_signal(signal.SIGHUP)
        assert eventually(lambda: call(service, trusting(authority))[1] == "renewed")
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_sighup_opens_the_log_anew(shelf, place, tmp_path, ask):
    """As log rotation wants it: the file is moved away, and the next line is in a new one."""
    log, moved = tmp_path / "access.jsonl", tmp_path / "access.1.jsonl"
    with process_of(place, "--log", log, "--log-ratio", "1") as (process, line):
        service = type("At", (), {"url": line.split()[2]})
        assert ask(service, "POST", "/predict/flowers", [[3, 1]]).code == 200
        log.rename(moved)
        process.send_signal(signal.SIGHUP)
        assert eventually(log.exists)
        assert ask(service, "POST", "/predict/flowers", [[3, 1]]).code == 200
        assert eventually(lambda: len(log.read_text().splitlines()) == 1)
        assert len(moved.read_text().splitlines()) == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_sighup_drains_where_nothing_can_be_read_anew(shelf, place):
    with process_of(place) as (process, _):
        process.send_signal(signal.SIGHUP)
        assert process.wait(20) == 0
