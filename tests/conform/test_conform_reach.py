"""How the kit comes to a server, over TLS with a certificate of its own, or says why it does not get there."""

from __future__ import annotations

import json
import socket

import pytest

pytest.importorskip("grpc")
pytest.importorskip("cryptography")

from modelmill.cli import run as run_inside
from modelmill.conform.run import checks, examine, outcome
from modelmill.errors import OutOfBounds, UnknownName, WorkError
from modelmill.serve.access.access import Access
from modelmill.serve.access.tls import TlsFiles
from modelmill.serve.server import Service
from modelmill.tls import Tls

KEY = {"authorization": "Bearer secret"}


@pytest.fixture(scope="module")
def authority(made, tmp_path_factory):
    return made[1].Authority(tmp_path_factory.mktemp("tls"), "authority")


@pytest.fixture(scope="module")
def client(authority):
    """A client's certificate and its key."""
    return tuple(map(str, authority.sign("client")))


def serving(place, registry, authority, client_ca=None):
    access = Access(place.database, place.path, TlsFiles(*authority.sign("service"), client_ca))
    return Service(registry, grpc_port=0, access=access)


@pytest.fixture(scope="module")
def secure(place, registry, authority):
    with serving(place, registry, authority) as service:
        yield service


@pytest.fixture(scope="module")
def mutual(place, registry, authority):
    """A service that wants its clients' certificates."""
    with serving(place, registry, authority, authority.path) as service:
        yield service


def deviating(url, grpc, tls, **given):
    subject, _ = examine(url, grpc, "flowers", timeout_s=20, tls=tls, **given)
    found = [outcome(check, subject) for check in checks(subject)]
    assert {"core.grpc.infer.raw", "grpc.stream"} <= {each.id for each in found if each.verdict == "holds"}
    return [each for each in found if each.verdict == "deviates"]


def test_our_service_keeps_to_the_protocol_over_tls(secure, authority):
    assert deviating(secure.url, secure.grpc_url, Tls(str(authority.path))) == []


def test_a_service_that_wants_certificates_is_shown_one(mutual, authority, client):
    assert deviating(mutual.url, mutual.grpc_url, Tls(str(authority.path), *client)) == []
    with pytest.raises(WorkError, match=r"encrypted connection.*--cert FILE"):
        examine(mutual.url, tls=Tls(str(authority.path)))


def test_an_authority_that_is_not_trusted_is_said(service, secure, made, tmp_path):
    other = made[1].Authority(tmp_path, "other")
    for tls in (None, Tls(str(other.path))):
        with pytest.raises(WorkError, match=r"not trusted: .*certificate.*--ca-file FILE"):
            examine(secure.url, tls=tls)
    with pytest.raises(WorkError, match=r"--grpc .*not trusted"):
        examine(service.url, f"grpcs://{secure.grpc_url}", tls=Tls(str(other.path)))


def test_encrypted_and_plain_are_told_apart(service, secure, authority):
    tls = Tls(str(authority.path))
    with pytest.raises(WorkError, match=r"speaks TLS\. Write https://"):
        examine(secure.url.replace("https", "http"))
    with pytest.raises(WorkError, match="does not speak TLS"):
        examine(service.url.replace("http", "https"))
    with pytest.raises(WorkError, match=r"does not speak gRPC.*grpcs://"):
        examine(service.url, secure.grpc_url)
    with pytest.raises(WorkError, match="does not speak TLS"):
        examine(secure.url, service.grpc_url, tls=tls)
    with pytest.raises(WorkError, match="does not speak gRPC"):
        examine(service.url, service.url.partition("://")[2])
    examine(service.url, f"grpc://{service.grpc_url}", "flowers")


def test_a_key_never_goes_in_the_open_beside_https(secure, service, authority):
    tls = Tls(str(authority.path))
    with pytest.raises(OutOfBounds, match="in the open what --header sends encrypted"):
        examine(secure.url, f"grpc://{service.grpc_url}", "flowers", KEY, tls=tls)
    examine(secure.url, f"grpc://{service.grpc_url}", "flowers", tls=tls)
    with pytest.raises(OutOfBounds, match="is not encrypted, and files of TLS were given"):
        examine(service.url, service.grpc_url, tls=tls)


def test_files_that_cannot_be_used_are_said(secure, authority, client, tmp_path):
    (tmp_path / "empty.pem").write_text("nothing")
    for tls in (Tls(str(tmp_path / "absent.pem")), Tls(str(tmp_path / "empty.pem"))):
        with pytest.raises(OutOfBounds, match=r"--ca-file .*cannot be used"):
            examine(secure.url, tls=tls)
    with pytest.raises(OutOfBounds, match=r"--key .*without its certificate"):
        examine(secure.url, tls=Tls(str(authority.path), key=client[1]))
    with pytest.raises(OutOfBounds, match=r"--cert .*cannot be used"):
        examine(secure.url, tls=Tls(str(authority.path), client[0], str(authority.path)))


@pytest.mark.parametrize(
    "address", ["nonsense", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:99999", ":80", "ftp://a:1", "a:1/b", "a:b"]
)
def test_an_address_of_grpc_that_is_none_is_the_users_error(service, address, capsys):
    assert run_inside(["conform", service.url, "--grpc", address]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert "expected HOST:PORT" in said.err


def test_a_grpc_port_that_nobody_listens_on_is_said_as_one_of_http_is(service, capsys):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        dead = f"127.0.0.1:{listener.getsockname()[1]}"
        assert run_inside(["conform", service.url, "--grpc", dead]) == 1
        said = capsys.readouterr()
        assert (said.out, said.err.count("\n")) == ("", 1)
        assert "cannot be reached" in said.err
        assert run_inside(["conform", f"http://{dead}"]) == 1


def test_a_model_that_is_not_there_is_the_users_error(service, faulty, capsys):
    assert run_inside(["conform", service.url, "--model", "flower", "--json"]) == 2
    found = json.loads(capsys.readouterr().out)["error"]
    assert found["code"] == "unknown_name"
    assert "Did you mean flowers?" in found["try"]
    app, url = faulty
    for app.fault in ("", "unknown is 400"):
        with pytest.raises(UnknownName, match=r"named 'ad'\. Did you mean add"):
            examine(url, model="ad")


def test_a_port_of_grpc_alone_is_told_from_one_of_http(service, capsys):
    for model in ([], ["--model", "flowers"]):
        assert run_inside(["conform", f"http://{service.grpc_url}", *model]) == 1
        said = capsys.readouterr()
        assert (said.out, said.err.strip().isprintable()) == ("", True)
        assert "does not speak HTTP/1.1. Is it the port of gRPC? Give the URL of HTTP, and beside it --grpc" in said.err


@pytest.mark.parametrize("rest", ["/v2", "/v2/", "/v2/models/flowers"])
def test_a_url_that_goes_on_to_v2_is_told_what_it_should_be(service, rest):
    with pytest.raises(WorkError, match=rf"Give what stands before /v2: {service.url}\.$"):
        examine(f"{service.url}{rest}", model="flowers")


def test_a_server_that_wants_a_key_is_said_to(faulty):
    app, url = faulty
    app.fault = "wants a key"
    for model in ("", "add"):
        with pytest.raises(WorkError, match=r"answers 401.*--header 'authorization"):
            examine(url, model=model)
    subject, _ = examine(url, headers=KEY)
    assert subject.model == "add"


def test_the_command_takes_the_files(mutual, authority, client, capsys):
    files = ["--ca-file", str(authority.path), "--cert", client[0], "--key", client[1]]
    assert run_inside(["conform", mutual.url, "--grpc", mutual.grpc_url, "--model", "flowers", *files]) == 0
    assert "The server conforms." in capsys.readouterr().out
