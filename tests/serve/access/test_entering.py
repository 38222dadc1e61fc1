"""Who is let in over HTTP, who is not, and in which words."""

from __future__ import annotations

import itertools
import json
import socket
from urllib.parse import urlsplit

import pytest
from patience import eventually

from modelmill.errors import WorkError
from modelmill.serve.access.access import Access
from modelmill.serve.access.caller import EVERY_ROLE
from modelmill.serve.access.door import Door
from modelmill.serve.access.needs import NEEDS, OPEN
from modelmill.serve.engine.engine import DEFAULT, Engine
from modelmill.serve.plane import Plane, State
from modelmill.serve.server import Service, run
from modelmill.serve.signals.signals import Signals, Telling
from modelmill.serve.web import openapi
from modelmill.serve.web.app import App

ROWS = [[3, 1]]
TENSORS = {
    "inputs": [{"name": n, "datatype": "FP32", "shape": [1], "data": [v]} for n, v in (("length", 3), ("width", 1))]
}
INFER = "/v2/models/flowers/infer"


def test_without_keys_loopback_is_open_and_with_the_first_key_it_is_not(start, keys, ask):
    service = start()
    assert ask(service, "POST", "/predict/flowers", ROWS).code == 200
    secret, key = keys.create("web")
    assert eventually(lambda: ask(service, "POST", INFER, TENSORS).code == 401)
    refused = ask(service, "POST", "/predict/flowers", ROWS)
    assert refused.code == 401
    assert refused.headers["www-authenticate"].startswith("Bearer")
    assert "Authorization: Bearer KEY" in refused.json["error"]
    assert ask(service, "POST", "/predict/flowers", ROWS, secret).code == 200
    assert ask(service, "POST", "/predict/flowers", ROWS, headers={"X-API-Key": secret}).code == 200
    for _ in range(2):  # the second time by the look-up, on the short way
        assert ask(service, "POST", INFER, TENSORS, secret).json["outputs"][0]["data"] == ["long"]
    keys.revoke(key.id)
    assert eventually(lambda: ask(service, "POST", INFER, TENSORS, secret).code == 401)
    assert "revoked" in ask(service, "POST", "/predict/flowers", ROWS, secret).json["error"]
    keys.delete(key.id)
    assert eventually(lambda: ask(service, "POST", "/predict/flowers", ROWS).code == 200)


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer mm_00000000_" + "a" * 43},
        {"Authorization": "Basic dXNlcjpwYXNz"},
        {"Authorization": "KEY"},
        {"Authorization": "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9."},
        {"X-API-Key": "Bearer KEY"},
        {"X-API-Key": ""},
        {"X-API-Key": "../../etc/passwd"},
        {"X-API-Key": "KEY", "Authorization": "Bearer KEY"},
        {"Cookie": "modelmill_session=KEYID.99999999999.AAAA"},
        {"Cookie": "modelmill_session=" + "." * 5000},
        {"X-Tenant": "default", "X-Role": "admin"},
    ],
)
def test_what_is_no_key_is_unidentified(start, keys, ask, headers):
    secret, key = keys.create("web", roles=["admin"])
    service = start()
    sent = {name: value.replace("KEYID", key.id).replace("KEY", secret) for name, value in headers.items()}
    for method, path in (("POST", INFER), ("POST", "/predict/flowers"), ("GET", "/api/models"), ("GET", "/nowhere")):
        answer = ask(service, method, path, TENSORS if path == INFER else None, headers=sent)
        assert (answer.code, secret in answer.body.decode()) == (401, False)


def test_a_key_of_one_character_less_or_another_case_does_not_open(start, keys, ask):
    secret, _ = keys.create("web")
    service = start()
    for wrong in (secret[:-1], secret + "a", secret.swapcase(), secret.replace("mm_", "MM_")):
        assert ask(service, "POST", "/predict/flowers", ROWS, wrong).code == 401
    assert ask(service, "POST", "/predict/flowers", ROWS, secret).code == 200


def test_two_headers_with_a_key_are_refused(start, keys):
    secret, _ = keys.create("web")
    service = start()
    for line in (f"Authorization: Bearer {secret}\r\n" * 2, f"X-API-Key: {secret}\r\n" * 2):
        assert b" 400 " in raw(service, f"GET /v2 HTTP/1.1\r\nHost: a\r\n{line}Connection: close\r\n\r\n".encode())


def raw(service, data):
    host, port = urlsplit(service.url).netloc.split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(data)
        found = b""
        while piece := connection.recv(65536):
            found += piece
    return found


def test_a_rotated_key_opens_for_its_grace_and_the_new_one_at_once(place, start, ask):
    from modelmill.serve.access.keyring import Keyring
    from modelmill.serve.access.keys import Keys

    now = [1_000_000.0]
    keys = Keys(place.database, clock=lambda: now[0])
    old, key = keys.create("web", expires_ms=int((now[0] + 500) * 1000))
    new, _ = keys.rotate(key.id, grace_s=60)
    ring = Keyring(place.database, clock=lambda: now[0])
    ring.refresh()
    door = Door(ring)
    header = {secret: [(b"authorization", f"Bearer {secret}".encode())] for secret in (old, new)}
    for secret in (old, new):
        assert door.admit(header[secret]).key_id == key.id
        assert door.known(header[secret]) is not None
    now[0] += 61
    assert ring.refresh()
    assert door.known(header[old]) is None
    with pytest.raises(Exception, match="not one that is known"):
        door.admit(header[old])
    assert door.admit(header[new]).key_id == key.id
    now[0] += 500
    assert ring.refresh()
    assert door.known(header[new]) is None
    with pytest.raises(Exception, match="is expired"):
        door.admit(header[new])
    assert door.needs_key


def test_keys_that_expire_hold_to_their_time_while_the_database_cannot_be_read(place):
    from modelmill.errors import StorageError
    from modelmill.serve.access.keyring import Keyring
    from modelmill.serve.access.keys import Keys

    now = [1_000_000.0]
    secret, _ = Keys(place.database, clock=lambda: now[0]).create("web", expires_ms=int((now[0] + 5) * 1000))
    ring = Keyring(place.database, clock=lambda: now[0])
    ring.refresh()
    door = Door(ring)
    header = [(b"x-api-key", secret.encode())]
    assert door.admit(header) is door.known(header)
    now[0] += 6
    place.database.close()
    (place.path / "modelmill.db").write_bytes(b"no database")
    with pytest.raises(StorageError):
        ring.refresh()
    assert door.known(header) is None
    with pytest.raises(Exception, match="is expired"):
        door.admit(header)


def test_every_path_has_a_stated_need_and_is_closed_without_a_key(start, keys, ask):
    keys.create("web")
    service = start()
    app = App(Plane(None, Engine(DEFAULT), State(), None), Signals(Telling()), 1)
    for path, handlers in app.table().items():
        for method in handlers:
            assert (method, path) in NEEDS, f"{method} {path} has no need in access/needs.py"
            real = path.replace("{name}", "flowers").replace("{version}", "1").replace("{id}", "1")
            code = ask(service, method, f"/{real}", b"" if method == "POST" else None).code
            if NEEDS[method, path] is OPEN:
                assert code != 401, path
            else:
                assert code == 401, path


def test_the_document_states_what_each_path_needs():
    for path, operations in openapi.document([])["paths"].items():
        for method, operation in operations.items():
            need = NEEDS[method.upper(), path.strip("/")]
            stated = [] if need is OPEN else [{"bearer": sorted(need)}, {"key": sorted(need)}]
            assert operation["security"] == stated, path
            told = next(iter(operation["responses"].values())).get("headers", {})
            assert set(told) == (set() if need is OPEN else set(openapi.QUOTA)), path


@pytest.mark.parametrize("role", sorted(EVERY_ROLE))
def test_a_role_opens_what_needs_it_and_nothing_else(start, keys, ask, role):
    secret, _ = keys.create("one", roles=[role])
    service = start()
    app = App(Plane(None, Engine(DEFAULT), State(), None), Signals(Telling()), 1)
    for path, handlers in app.table().items():
        for method in handlers:
            need = NEEDS[method, path]
            if need is OPEN:
                continue
            real = path.replace("{name}", "flowers").replace("{version}", "1").replace("{id}", "1")
            code = ask(service, method, f"/{real}", b"" if method == "POST" else None, secret).code
            assert (code == 403) == (role not in need and role != "admin"), (method, path, code)


def test_what_a_tenant_claims_exists_for_no_other(start, keys, ask):
    keys.tenant("acme", models=["acme-*"])
    keys.tenant("blue", models=["blue-risk"])
    secrets = {
        tenant: keys.create("k", ["infer", "read", "operate"], tenant)[0] for tenant in ("acme", "blue", "default")
    }
    secrets["root"] = keys.create("root", ["admin"])[0]
    service = start()
    owner = {"acme-risk": "acme", "blue-risk": "blue", "flowers": None}
    ways = [
        ("POST", "/predict/{}", ROWS),
        ("POST", "/predict/{}@1", ROWS),
        ("POST", "/predict/{}@live", ROWS),
        ("POST", "/v2/models/{}/infer", TENSORS),
        ("POST", "/v2/models/{}/versions/1/infer", TENSORS),
        ("GET", "/v2/models/{}", None),
        ("GET", "/v2/models/{}/ready", None),
        ("GET", "/v2/models/{}/versions/1", None),
        ("GET", "/api/models/{}", None),
        ("GET", "/api/models/{}/report", None),
        ("GET", "/api/models/{}/changes", None),
        ("GET", "/api/models/{}/rollout", None),
    ]
    changing = [
        ("POST", "/api/models/{}/rollout", {"version": 1}),
        ("DELETE", "/api/models/{}/rollout", None),
        ("PUT", "/api/models/{}/route", {"method": "header"}),
        ("DELETE", "/api/models/{}/route", None),
    ]
    for (tenant, secret), (model, of), (method, path, body) in itertools.product(secrets.items(), owner.items(), ways):
        answer = ask(service, method, path.format(model), body, secret)
        seen = of in (None, tenant) or tenant == "root"
        assert answer.code == (200 if seen else 404), (tenant, model, path)
        if not seen:
            nobody = ask(service, method, path.format("nobody"), body, secret)
            assert answer.body == nobody.body.replace(b"nobody", model.encode())
    for method, path, body in changing:
        other, nobody = (
            ask(service, method, path.format(name), body, secrets["acme"]) for name in ("blue-risk", "nobody")
        )
        assert (other.code, other.body) == (404, nobody.body.replace(b"nobody", b"blue-risk"))
    for tenant, secret in secrets.items():
        visible = {model for model, of in owner.items() if of in (None, tenant) or tenant == "root"}
        assert {m["name"] for m in ask(service, "GET", "/api/models", key=secret).json["models"]} == visible
        assert {m["name"] for m in ask(service, "POST", "/v2/repository/index", {}, secret).json} == visible
        paths = set(ask(service, "GET", "/openapi.json", key=secret).json["paths"])
        assert {f"/predict/{model}" for model in owner} & paths == {f"/predict/{model}" for model in visible}
        wrong = ask(service, "POST", "/predict/flower", ROWS, secret).json["error"]
        assert all(model not in wrong for model in set(owner) - visible)


def test_a_tenants_key_changes_what_its_tenant_claims_and_no_model_of_all(start, keys, shelf, publish_flowers, ask):
    publish_flowers(shelf, "flowers")
    publish_flowers(shelf, "acme-risk")
    keys.tenant("acme", models=["acme-*"])
    tenants = {"acme": "acme", "default": "default"}
    secrets = {name: keys.create("ops", ["infer", "operate"], tenant)[0] for name, tenant in tenants.items()}
    secrets["root"] = keys.create("root", ["admin"], "acme")[0]
    service = start()
    sent = {"Content-Type": "application/json"}
    changes = [
        ("PUT", "/api/models/{}/route", {"method": "canary", "candidate": "2", "percent": 50}),
        ("DELETE", "/api/models/{}/route", None),
        ("POST", "/api/models/{}/rollout", {"version": 2}),
        ("DELETE", "/api/models/{}/rollout", None),
        ("POST", "/v2/repository/models/{}/unload", {}),
        ("POST", "/v2/repository/models/{}/load", {}),
    ]
    for method, path, body in changes:
        refused = ask(service, method, path.format("flowers"), body, secrets["acme"], sent)
        assert refused.code == 403, (method, path)
        assert "is of tenant acme, which does not claim 'flowers'" in refused.json["error"]
        assert ask(service, method, path.format("nobody"), body, secrets["acme"], sent).code == 404
    assert ask(service, "POST", "/predict/flowers", ROWS, secrets["acme"]).code == 200
    for name, model in (("acme", "acme-risk"), ("default", "flowers"), ("root", "flowers")):
        for method, path, body in changes:
            assert ask(service, method, path.format(model), body, secrets[name], sent).code in (200, 201), (name, path)


def test_a_key_that_only_watches_is_told_of_no_model(start, keys, ask):
    watch, infer = (keys.create(role, [role])[0] for role in ("watch", "infer"))
    service = start()
    answers = {secret: ask(service, "GET", "/openapi.json", key=secret) for secret in (watch, infer)}
    assert {answer.code for answer in answers.values()} == {200}
    assert b"flowers" in answers[infer].body
    assert b"flowers" not in answers[watch].body
    assert "/metrics" in answers[watch].json["paths"]
    assert b"flowers" not in ask(service, "GET", "/docs", key=watch).body


def test_a_key_may_be_narrowed_to_models(start, keys, ask):
    secret, _ = keys.create("one", models=["flow*"])
    service = start()
    assert ask(service, "POST", "/predict/flowers", ROWS, secret).code == 200
    assert ask(service, "POST", "/predict/acme-risk", ROWS, secret).code == 404


def test_a_narrowed_key_is_not_told_of_all_models_whatever_its_roles(start, keys, ask):
    keys.tenant("acme", models=["acme-*"])
    narrow = keys.create("narrow", ["admin"], "acme", ["acme-*"])[0]
    watch = keys.create("watch", ["infer", "watch"], models=["flow*"])[0]
    wide = keys.create("wide", ["admin"], "acme")[0]
    prometheus = keys.create("prometheus", ["watch"])[0]
    service = start()
    for path in ("/api/audit", "/api/status", "/metrics"):
        codes = [ask(service, "GET", path, key=key).code for key in (narrow, watch, wide)]
        assert codes == [403, 403, 200], path
    assert "is narrowed to some models" in ask(service, "GET", "/metrics", key=narrow).json["error"]
    assert ask(service, "GET", "/metrics", key=prometheus).code == 200
    assert ask(service, "GET", "/v2/models/acme-risk", key=narrow).code == 200


def test_a_forged_host_is_refused_on_loopback_and_its_own_names_are_not(start, ask):
    service = start()
    port = urlsplit(service.url).port
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", "localhost.evil", "", "169.254.1.1"):
        for path, body in (("/predict/flowers", ROWS), (INFER, TENSORS)):
            assert ask(service, "POST", path, body, headers={"Host": host}).code == 403, host
        assert ask(service, "GET", "/", headers={"Host": host}).code == 403
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", "localhost", f"[::1]:{port}", "127.0.0.2"):
        assert ask(service, "POST", INFER, TENSORS, headers={"Host": host}).code == 200, host
    assert ask(service, "GET", "/v2/health/live", headers={"Host": "evil.example"}).code == 200


def test_pages_of_other_sites_change_nothing_on_loopback(start, ask):
    service = start()
    foreign = [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://["},
        {"Origin": "http://]:a@["},
        {"Origin": service.url, "Sec-Fetch-Site": "cross-site"},
    ]
    for headers in foreign:
        assert ask(service, "POST", "/predict/flowers", ROWS, headers=headers).code == 403
        assert ask(service, "POST", INFER, TENSORS, headers={"Origin": "https://evil.example"}).code == 403
    for headers in ({"Origin": service.url}, {"Sec-Fetch-Site": "same-origin", "Origin": service.url}):
        assert ask(service, "POST", "/predict/flowers", ROWS, headers=headers).code == 200


def test_a_page_of_no_site_is_not_of_a_host_without_a_name(start):
    head = b"POST /predict/flowers HTTP/1.0\r\nOrigin: null\r\nContent-Length: 8\r\n\r\n"
    assert b" 403 " in raw(start(), head + b"[[3, 1]]")


def test_other_machines_are_let_in_by_keys_or_on_a_word(place, shelf, keys):
    with pytest.raises(WorkError, match=r"there are no keys.*--insecure"), Service(shelf, host="0.0.0.0"):
        pass
    with pytest.raises(WorkError, match="there are no keys"):
        run(shelf, host="0.0.0.0", port=0, access=Access(place.database, place.path))
    with Service(shelf, host="0.0.0.0", access=Access(place.database, place.path, insecure=True)):
        pass
    keys.create("web")
    with Service(shelf, host="0.0.0.0", access=Access(place.database, place.path)):
        pass


def test_a_service_for_other_machines_does_not_open_when_its_last_key_is_gone(start, keys, ask):
    secret, key = keys.create("web")
    service = start(host="0.0.0.0")
    assert ask(service, "POST", INFER, TENSORS, secret).code == 200
    keys.revoke(key.id)
    keys.delete(key.id)
    assert eventually(lambda: "there are no keys" in ask(service, "POST", INFER, TENSORS).body.decode())
    assert ask(service, "POST", INFER, TENSORS).code == 401


def test_a_basic_tenant_infers_and_does_nothing_else(start, keys, ask):
    keys.tenant("small", tier="standard")
    secret, _ = keys.create("device", ["infer", "read", "admin"], "small")
    keys.tenant("small", tier="basic")
    service = start()
    assert ask(service, "POST", INFER, TENSORS, secret).code == 200
    assert "tier basic" in ask(service, "GET", "/api/audit", key=secret).json["error"]
    many = {"inputs": [{**t, "shape": [257], "data": [1] * 257} for t in TENSORS["inputs"]]}
    assert ask(service, "POST", INFER, many, secret).code == 413
    assert ask(service, "POST", "/predict/flowers", [[3, 1]] * 257, secret).code == 413
    assert ask(service, "POST", "/predict/flowers", [[3, 1]] * 256, secret).code == 200
    large = b"[" + b" " * 1_000_000 + b"[3, 1]]"
    assert ask(service, "POST", "/predict/flowers", large, secret).code == 413


def test_the_audit_log_is_for_administrators_and_says_who(start, keys, ask):
    secret, key = keys.create("root", ["admin"])
    plain, _ = keys.create("plain", ["infer", "read", "operate", "watch"])
    service = start()
    assert ask(service, "GET", "/api/audit", key=plain).code == 403
    answer = ask(service, "GET", "/api/audit", key=secret)
    deeds = answer.json["deeds"]
    assert {"models.publish", "models.promote", "keys.create"} <= {deed["verb"] for deed in deeds}
    assert all(deed["who"].startswith("user:") for deed in deeds)
    assert all(key.digest not in str(deed) and secret not in str(deed) for deed in deeds)
    first = ask(service, "GET", "/api/audit?since=0&limit=1", key=secret).json["deeds"]
    assert [deed["id"] for deed in first] == [1]
    for query, words in (
        ("since=x", "'x' is not a number"),
        ("since=", "'' is not a number"),
        ("limit=1&limit=5", "comes twice"),
        ("limit=0", "asks for nothing"),
        ("limit=1&verb=keys.create", "nothing is asked by 'verb'. There are since and limit."),
        ("verb", "nothing is asked by 'verb'"),
    ):
        refused = ask(service, "GET", f"/api/audit?{query}", key=secret)
        assert (refused.code, words in refused.json["error"]) == (400, True), query


def test_changes_over_http_are_in_the_log_by_key_and_address(start, keys, shelf, publish_flowers, ask):
    publish_flowers(shelf, "acme-risk")
    keys.tenant("acme", models=["acme-*"])
    secret, key = keys.create("ops", ["operate"], "acme")
    other, _ = keys.create("ops", ["operate"])
    service = start()
    sent = {"Content-Type": "application/json"}
    canary = {"method": "canary", "candidate": "2", "percent": 50}
    for path, method, body in (
        ("/api/models/acme-risk/route", "PUT", canary),
        ("/api/models/acme-risk/route", "DELETE", None),
        ("/api/models/acme-risk/rollout", "POST", {"version": 2}),
        ("/api/models/acme-risk/rollout", "DELETE", None),
        ("/v2/repository/models/acme-risk/unload", "POST", {}),
        ("/v2/repository/models/acme-risk/load", "POST", {}),
    ):
        assert ask(service, method, path, body, other, sent).code == 404, (method, path)
        assert ask(service, method, path, body, secret, sent).code in (200, 201), (method, path)
    told = [deed for deed in keys.audit() if deed.who == f"key:{key.id}"]
    assert {(deed.tenant, deed.origin) for deed in told} == {("acme", "127.0.0.1")}
    assert [deed.verb for deed in told] == [
        "routes.set",
        "routes.clear",
        "rollouts.running",
        "rollouts.aborted",
        "serve.unload",
        "serve.load",
    ]
    assert keys.verify() == ([], keys.audit()[-1].digest)


def test_what_cannot_be_written_down_is_not_done(start, keys, place, ask, capfd):
    secret, _ = keys.create("ops", ["operate", "infer"])
    service = start()
    sent = {"Content-Type": "application/json"}
    path = "/v2/repository/models/flowers"

    def refused(verb):
        answer = ask(service, "POST", f"{path}/{verb}", {}, secret, sent)
        assert answer.code == 500
        assert answer.json["error"].startswith("service: the database refuses.")
        assert str(place.path) not in answer.json["error"]
        assert "no room for it" in capfd.readouterr().err

    with place.database.writing() as connection:
        connection.execute(
            "CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'no room for it'); END"
        )
    refused("unload")
    assert ask(service, "POST", "/predict/flowers", ROWS, secret).code == 200
    with place.database.writing() as connection:
        connection.execute("DROP TRIGGER full")
    assert ask(service, "POST", f"{path}/unload", {}, secret, sent).code == 200
    with place.database.writing() as connection:
        connection.execute(
            "CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'no room for it'); END"
        )
    refused("load")
    assert ask(service, "POST", "/predict/flowers", ROWS, secret).code == 404


def test_the_access_log_names_the_tenant(start, ask, keys, tmp_path):
    """Of the short way, the ordinary one, and of a request that failed."""
    log = tmp_path / "access.jsonl"
    keys.tenant("acme", "standard")
    key, _ = keys.create("phone", tenant="acme")
    service = start(telling=Telling(log, 1.0))
    for path, body, code in (
        (INFER, TENSORS, 200),
        ("/predict/flowers", ROWS, 200),
        (INFER, {"inputs": []}, 400),
    ):
        assert ask(service, "POST", path, body, key).code == code
    service.close()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["tenant"], line["code"]) for line in lines] == [("acme", 200), ("acme", 200), ("acme", 400)]
