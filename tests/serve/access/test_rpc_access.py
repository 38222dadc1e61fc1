"""Keys, tenants, quotas and TLS over gRPC: the same as over HTTP."""

from __future__ import annotations

import gzip
import socket
import struct

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from patience import eventually

from modelmill.protocol.schema import schema
from modelmill.serve import packed
from modelmill.serve.access.needs import CALLS, OPEN
from modelmill.serve.access.quota import Quota
from modelmill.serve.access.tls import TlsFiles
from modelmill.serve.rpc import hpack
from modelmill.serve.rpc.frames import DATA, HEAD, HEADERS, PREFACE, SETTINGS

PACKAGE = "/inference.GRPCInferenceService/"
INFER = f"{PACKAGE}ModelInfer"


def flower(rows=1, model="flowers"):
    inputs = [{"name": name, "datatype": "FP32", "shape": [rows]} for name in ("length", "width")]
    raw = [struct.pack(f"<{rows}f", *[value] * rows) for value in (3, 1)]
    return {"model_name": model, "inputs": inputs, "raw_input_contents": raw}


@pytest.fixture
def rpc(start):
    """Calls a method of a service that is started for the test: the answer, or the name of the refusal."""
    channels = []

    def connect(service, credentials=None):
        channel = (
            grpc.secure_channel(service.grpc_url, credentials)
            if credentials
            else grpc.insecure_channel(service.grpc_url)
        )
        channels.append(channel)

        def call(path, key=None, header="authorization", **request):
            method = schema().methods[path]
            value = f"Bearer {key}" if header == "authorization" else key
            metadata = ((header, value),) if key is not None else ()
            message = schema().encode(method.request, request)
            try:
                answer = channel.unary_unary(path)(message, timeout=20, metadata=metadata)
            except grpc.RpcError as error:
                return f"{error.code().name}: {error.details()}"
            return schema().decode(method.response, answer)

        call.channel = channel
        return call

    yield connect
    for channel in channels:
        channel.close()


def test_a_key_is_wanted_as_soon_as_there_is_one(start, rpc, keys):
    call = rpc(start(grpc_port=0))
    assert call(INFER, **flower())["model_name"] == "flowers"
    secret, key = keys.create("web")
    assert eventually(lambda: str(call(INFER, **flower())).startswith("UNAUTHENTICATED"))
    for header in ("authorization", "x-api-key"):
        for _ in range(2):  # the second time by the look-up
            assert call(INFER, secret, header, **flower())["model_name"] == "flowers"
    assert call(INFER, secret + "a", **flower()).startswith("UNAUTHENTICATED")
    assert call(f"{PACKAGE}ServerLive") == {"live": True}
    assert call("/grpc.health.v1.Health/Check") == {"status": 1}
    keys.revoke(key.id)
    assert eventually(lambda: str(call(INFER, secret, **flower())).startswith("UNAUTHENTICATED"))


def test_every_method_has_a_stated_need_and_is_closed_without_a_key(start, rpc, keys):
    keys.create("web")
    service = start(grpc_port=0)
    call = rpc(service)
    from modelmill.serve.rpc.methods import Methods

    methods = Methods(service.server.plane, service.server.signals)
    for path in methods.unary:
        need = CALLS[path.rpartition("/")[2]]
        refused = str(call(path)).startswith("UNAUTHENTICATED")
        assert refused == (need is not OPEN), path
    assert {path.rpartition("/")[2] for path in (*methods.unary, *methods.streaming)} == set(CALLS)
    stream = call.channel.stream_stream(f"{PACKAGE}ModelStreamInfer")(iter([b""]), timeout=20)
    with pytest.raises(grpc.RpcError) as error:
        list(stream)
    assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_roles_tenants_and_tiers_hold(start, rpc, keys):
    keys.tenant("acme", models=["acme-*"])
    keys.tenant("blue", "basic", models=["blue-*"])
    acme = keys.create("a", ["infer", "operate"], "acme")[0]
    blue = keys.create("b", ["infer"], "blue")[0]
    call = rpc(start(grpc_port=0))
    unload = "/inference.GRPCInferenceService/RepositoryModelUnload"
    assert call(INFER, acme, **flower(model="acme-risk"))["model_name"] == "acme-risk"
    assert call(INFER, blue, **flower(model="acme-risk")) == "NOT_FOUND: model: 'acme-risk' is not served"
    assert call(INFER, blue, **flower(model="nobody")) == "NOT_FOUND: model: 'nobody' is not served"
    assert call(f"{PACKAGE}ModelReady", blue, name="acme-risk") == {"ready": False}
    for method in ("ModelMetadata", "ModelConfig", "ModelStatistics"):
        assert call(f"{PACKAGE}{method}", blue, name="acme-risk").startswith("NOT_FOUND")
    index = call("/inference.GRPCInferenceService/RepositoryIndex", blue)["models"]
    assert {model["name"] for model in index} == {"blue-risk", "flowers"}
    assert {s["name"] for s in call(f"{PACKAGE}ModelStatistics", blue)["model_stats"]} == {"blue-risk", "flowers"}
    assert call(unload, blue, model_name="blue-risk").startswith("PERMISSION_DENIED")
    assert call(unload, acme, model_name="blue-risk").startswith("NOT_FOUND")
    for method in (unload, unload.replace("Unload", "Load")):
        refused = call(method, acme, model_name="flowers")
        assert refused.startswith("PERMISSION_DENIED: key: is of tenant acme, which does not claim 'flowers'")
        assert call(method, acme, model_name="nobody").startswith("NOT_FOUND")
    assert call(unload, acme, model_name="acme-risk")["isUnloaded"]
    assert [deed.verb for deed in keys.audit()][-1] == "serve.unload"
    assert keys.audit()[-1].origin == "127.0.0.1"
    assert call(INFER, blue, **flower(257)).startswith("RESOURCE_EXHAUSTED: rows")
    assert call(INFER, blue, **flower(256))["model_name"] == "flowers"
    assert call(INFER, blue, **flower(130_000)).startswith("RESOURCE_EXHAUSTED: message")


def test_a_quota_is_told_with_the_time_to_wait(start, rpc, keys):
    secret, _ = keys.create("slow", quota=Quota(requests_per_s=0.01))
    rows, _ = keys.create("rows", quota=Quota(rows_per_day=2))
    call = rpc(start(grpc_port=0))
    assert call(INFER, secret, **flower())["model_name"] == "flowers"
    over = call(INFER, secret, **flower())
    assert over.startswith(
        "RESOURCE_EXHAUSTED: quota of the key: 36/h, 1 at once, is used up: there is room for a request"
    )
    assert call(INFER, rows, **flower(2))["model_name"] == "flowers"
    infer, message = call.channel.unary_unary(INFER), schema().encode("inference.ModelInferRequest", flower())
    for key, most_s in ((secret, 100), (rows, 86_400)):
        error = infer.future(message, timeout=20, metadata=(("x-api-key", key),)).exception()
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        told = dict(error.trailing_metadata())
        assert told["modelmill-version"] == "flowers@1"
        said = Status.FromString(told["grpc-status-details-bin"])
        assert (said.code, said.message) == (8, error.details())
        again = RetryInfo()
        assert said.details[0].Unpack(again)
        wait_ms = int(told["grpc-retry-pushback-ms"])
        assert 0 < wait_ms <= most_s * 1000
        assert 0 <= wait_ms - again.retry_delay.ToNanoseconds() / 1e6 <= 1
    error = infer.future(message, timeout=20).exception()
    assert (error.code(), error.trailing_metadata()) == (grpc.StatusCode.UNAUTHENTICATED, ())


def test_what_is_left_of_a_quota_stands_in_the_trailing_metadata_of_every_call(start, rpc, keys):
    limited, _ = keys.create("slow", quota=Quota(requests_per_s=0.1, burst=4))
    free, _ = keys.create("free")
    channel = rpc(start(grpc_port=0)).channel

    def told(path, secret, sent=b""):
        metadata = (("authorization", f"Bearer {secret}"),)
        call = channel.unary_unary(path)
        try:
            _, done = call.with_call(sent, timeout=20, metadata=metadata)
        except grpc.RpcError as error:
            done = error
        found = {name: value for name, value in done.trailing_metadata() if name.startswith("ratelimit")}
        return done.code().name, found

    flowers = schema().encode("inference.ModelInferRequest", flower())
    code, first = told(INFER, limited, flowers)
    assert (code, first["ratelimit-limit"], first["ratelimit-policy"]) == ("OK", "6", "6;w=60")
    assert first["ratelimit-remaining"] == "3"
    assert int(first["ratelimit-reset"]) > 0
    code, second = told(f"{PACKAGE}ServerMetadata", limited)
    assert (code, second["ratelimit-remaining"]) == ("OK", "2")
    code, third = told(f"{PACKAGE}ModelMetadata", limited)
    assert (code, third["ratelimit-remaining"]) == ("NOT_FOUND", "1")
    stream = channel.stream_stream(f"{PACKAGE}ModelStreamInfer")
    done = stream(iter([flowers]), timeout=20, metadata=(("x-api-key", limited),))
    assert len(list(done)) == 1
    assert dict(done.trailing_metadata())["ratelimit-remaining"] == "0"
    code, over = told(INFER, limited, flowers)
    assert (code, over["ratelimit-remaining"]) == ("RESOURCE_EXHAUSTED", "0")
    assert told(f"{PACKAGE}ServerLive", limited) == ("OK", {})
    assert told(INFER, free, flowers) == ("OK", {})


def test_calls_are_encrypted_and_clients_show_certificates(start, rpc, authority, make_authority):
    clients = make_authority("clients")
    cert, key = clients.sign("alice")
    service = start(grpc_port=0, access={"tls": TlsFiles(*authority.sign("service"), clients.path)})
    root = authority.path.read_bytes()
    known = grpc.ssl_channel_credentials(root, key.read_bytes(), cert.read_bytes())
    assert rpc(service, known)(f"{PACKAGE}ServerLive") == {"live": True}
    renewed, private = authority.sign("renewed")
    tls = service.server.door.tls
    tls.files.cert.write_bytes(renewed.read_bytes())
    tls.files.key.write_bytes(private.read_bytes())
    service.server.reload()
    assert rpc(service, known)(INFER, **flower())["model_name"] == "flowers"
    strange_cert, strange_key = make_authority("strangers").sign("mallory")
    stranger = grpc.ssl_channel_credentials(root, strange_key.read_bytes(), strange_cert.read_bytes())
    for credentials in (stranger, grpc.ssl_channel_credentials(root), None):
        assert rpc(service, credentials)(f"{PACKAGE}ServerLive").startswith("UNAVAILABLE")


def test_a_message_of_whoever_may_not_send_it_is_not_waited_for(start, keys):
    """Neither that of a client without a key, nor one beyond the tenant's tier: the answer is there before they are."""
    keys.tenant("small", "basic")
    secret, _ = keys.create("phone", tenant="small")
    service = start(grpc_port=0)
    for further, code in (((), b"16"), (((b"authorization", f"Bearer {secret}".encode()),), b"8")):
        pairs = ((b":path", INFER.encode()), (b"content-type", b"application/grpc"), *further)
        head = b"\x83\x86" + b"".join(hpack.literal(*pair) for pair in pairs)
        started = b"\0" + (2_000_000).to_bytes(4, "big") + b"x" * 100
        host, port = service.grpc_url.split(":")
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            connection.sendall(
                PREFACE + frame(SETTINGS, 0, 0) + frame(HEADERS, 4, 1, head) + frame(DATA, 0, 1, started)
            )
            found, trailers = b"", hpack.literal(b"grpc-status", code)
            while trailers not in found:
                more = connection.recv(65536)
                assert more, found
                found += more


@pytest.mark.parametrize("method", ["ModelInfer", "ModelStreamInfer"])
def test_nothing_is_inflated_before_it_is_known_who_sends_it(start, keys, monkeypatch, method):
    """A frame of 2 kB holds 2 MB: without a key none of them are made, and in the smallest tier no more than it may."""
    keys.tenant("small", "basic")
    secret, _ = keys.create("phone", tenant="small")
    service = start(grpc_port=0)
    inflated, allowed = packed.inflated, []

    def seen(where, message, encoding, most_bytes):
        allowed.append(most_bytes)
        return inflated(where, message, encoding, most_bytes)

    monkeypatch.setattr(packed, "inflated", seen)
    squeezed = gzip.compress(bytes(2_000_000))
    body = b"\1" + len(squeezed).to_bytes(4, "big") + squeezed
    for further, code in (((), b"16"), (((b"x-api-key", secret.encode()),), b"8")):
        pairs = ((b":path", f"{PACKAGE}{method}".encode()), (b"content-type", b"application/grpc"))
        block = b"".join(hpack.literal(*pair) for pair in (*pairs, (b"grpc-encoding", b"gzip"), *further))
        host, port = service.grpc_url.split(":")
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            connection.sendall(
                PREFACE + frame(SETTINGS, 0, 0) + frame(HEADERS, 4, 1, b"\x83\x86" + block) + frame(DATA, 1, 1, body)
            )
            found, trailers = b"", hpack.literal(b"grpc-status", code)
            while trailers not in found:
                more = connection.recv(65536)
                assert more, found
                found += more
        assert bool(allowed) == bool(further)
    assert max(allowed) == 1_000_000


def test_what_anyone_may_send_is_short(start, rpc, keys):
    """Health needs no key, and so its messages are no larger than a name needs."""
    keys.create("web")
    call = rpc(start(grpc_port=0))
    for method in (f"{PACKAGE}ServerLive", "/grpc.health.v1.Health/Check"):
        packed = call.channel.unary_unary(method)
        with pytest.raises(grpc.RpcError) as error:
            packed(bytes(2_000_000), timeout=20, compression=grpc.Compression.Gzip)
        assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def frame(kind, flags, stream, payload=b""):
    return HEAD.pack(len(payload) >> 8, len(payload) & 0xFF, kind, flags, stream) + payload
