"""A person signs in with a key, uses the pages, and signs out."""

from __future__ import annotations

import socket
from urllib.parse import urlencode, urlsplit

import pytest
from patience import eventually

from modelmill.console.pages import Pages
from modelmill.errors import Overloaded
from modelmill.serve.access.ended import MOST, end, ended
from modelmill.serve.access.sessions import Sessions, secret_in

PAGE = {"Accept": "text/html,application/xhtml+xml"}
FORM = {"Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def paged(start, shelf, place):
    return lambda **settings: start(pages=Pages(shelf, place.database), **settings)


def sign_in(ask, service, key, onward="/"):
    body = urlencode({"key": key, "next": onward}).encode()
    return ask(service, "POST", "/signin", body, headers=FORM)


def cookie_of(answer):
    return {"Cookie": answer.headers["set-cookie"].partition(";")[0]}


def test_a_person_is_led_to_sign_in_and_back(paged, keys, ask):
    secret, _ = keys.create("ada", ["infer", "read"])
    service = paged()
    led = ask(service, "GET", "/models/flowers?a=1", headers=PAGE)
    assert (led.code, led.headers["location"]) == (303, "/signin?next=%2Fmodels%2Fflowers%3Fa%3D1")
    page = ask(service, "GET", led.headers["location"], headers=PAGE)
    assert page.code == 200
    assert b'value="/models/flowers?a=1"' in page.body
    assert "default-src 'none'" in page.headers["content-security-policy"]
    entered = sign_in(ask, service, secret, "/models/flowers?a=1")
    assert (entered.code, entered.headers["location"]) == (303, "/models/flowers?a=1")
    attributes = entered.headers["set-cookie"]
    assert all(word in attributes for word in ("HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=43200"))
    assert secret not in attributes
    signed = cookie_of(entered)
    for path in ("/", "/models/flowers", "/runs", "/docs", "/openapi.json", "/api/models/flowers"):
        assert ask(service, "GET", path, headers={**PAGE, **signed}).code == 200, path
    answer = ask(service, "POST", "/predict/flowers", [[3, 1]], headers={**signed, "Sec-Fetch-Site": "same-origin"})
    assert answer.json["predictions"][0]["label"] == "long"
    assert ask(service, "GET", "/metrics", headers=signed).code == 403
    left = ask(service, "POST", "/signout", b"", headers={**signed, **FORM})
    assert (left.code, "Max-Age=0" in left.headers["set-cookie"]) == (303, True)


def test_programs_are_told_and_not_led(paged, keys, ask):
    keys.create("ada")
    assert ask(paged(), "GET", "/", headers={"Accept": "*/*"}).code == 401


def test_a_wrong_key_leads_back_to_the_page_that_says_so(paged, keys, ask):
    keys.create("ada")
    service = paged()
    answer = sign_in(ask, service, "mm_00000000_" + "a" * 43, '/"><script>')
    assert "set-cookie" not in answer.headers
    page = ask(service, "GET", answer.headers["location"], headers=PAGE).body
    assert b"does not open" in page
    assert b"<script>" not in page


@pytest.mark.parametrize(
    "onward", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:x", "/a\r\nX: y"]
)
def test_nobody_is_led_to_another_site(paged, keys, ask, onward):
    secret, _ = keys.create("ada")
    assert sign_in(ask, paged(), secret, onward).headers["location"] == "/"


def test_without_keys_there_is_nothing_to_sign_in_to(paged, ask):
    service = paged()
    assert ask(service, "GET", "/signin", headers=PAGE).headers["location"] == "/"
    assert ask(service, "GET", "/", headers=PAGE).code == 200


def test_pages_of_other_sites_cannot_use_the_cookie(paged, keys, ask):
    secret, _ = keys.create("ada", ["admin"])
    service = paged()
    signed = cookie_of(sign_in(ask, service, secret))
    own = {"Origin": service.url}
    foreign = [
        {},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "http://["},
    ]
    for path in ("/predict/flowers", "/v2/repository/models/flowers/unload", "/signout"):
        for headers in foreign:
            assert ask(service, "POST", path, b"", headers={**signed, **headers}).code == 403, (path, headers)
    assert ask(service, "POST", "/v2/repository/models/flowers/unload", b"", headers={**signed, **own}).code == 200
    body = urlencode({"key": secret}).encode()
    assert ask(service, "POST", "/signin", body, headers={"Origin": "https://evil.example"}).code == 403


def begun(service, *lines, body=b""):
    """The beginning of the answer to a sign-in of which the head is sent, and no more of its form than `body`."""
    host, port = urlsplit(service.url).netloc.split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall("\r\n".join(("POST /signin HTTP/1.1", "Host: localhost", *lines, "", "")).encode() + body)
        return connection.recv(1000)


def test_a_form_is_small_and_not_read_before_it_is_known_whose_page_sent_it(paged, keys):
    keys.create("ada")
    service = paged()
    site = "Sec-Fetch-Site: same-origin"
    assert b" 413 " in begun(service, site, "Content-Length: 50000000")
    assert b" 403 " in begun(service, "Content-Length: 50000000")
    assert b" 403 " in begun(service, "Origin: https://evil.example", "Content-Length: 10")
    chunk = b"1400\r\n" + b"a" * 0x1400
    assert b" 413 " in begun(service, site, "Transfer-Encoding: chunked", body=chunk)


def test_a_session_ends_with_its_key_its_time_and_its_secret(paged, keys, ask, place):
    secret, key = keys.create("ada")
    service = paged()
    signed = cookie_of(sign_in(ask, service, secret))
    assert ask(service, "GET", "/v2", headers=signed).code == 200
    new, _ = keys.rotate(key.id, grace_s=0)
    assert eventually(lambda: ask(service, "GET", "/v2", headers=signed).code == 401)
    signed = cookie_of(sign_in(ask, service, new))
    assert ask(service, "GET", "/v2", headers=signed).code == 200
    name, _, value = signed["Cookie"].partition("=")
    key_id, until, mark = value.split(".")
    for forged in (
        f"{key_id}.{int(until) + 1}.{mark}",
        f"{key_id}.{until}.{mark[:-1]}",
        f"{key_id}.1.{mark}",
        f"{key_id}.².",
    ):
        assert ask(service, "GET", "/v2", headers={"Cookie": f"{name}={forged}".encode().decode("latin-1")}).code == 401
    keys.revoke(key.id)
    assert eventually(lambda: ask(service, "GET", "/v2", headers=signed).code == 401)
    sessions = Sessions(secret_in(place.path / "session.key"), lasts_s=10)
    cookie = sessions.cookie("a", "digest", 100.0)
    session = sessions.read(cookie, 109.0)
    assert (session.key_id, session.until_s, sessions.read(cookie, 110.0)) == ("a", 110, None)
    assert sessions.holds(session, "digest")
    assert not Sessions(b"other").holds(session, "digest")


def test_who_signs_out_ends_that_session_everywhere_and_for_good(paged, keys, ask, place):
    secret, _ = keys.create("ada")
    service, beside = paged(), paged()
    first, second = (cookie_of(sign_in(ask, service, secret)) for _ in range(2))
    assert first != second
    for at in (service, beside):
        assert [ask(at, "GET", "/v2", headers=signed).code for signed in (first, second)] == [200, 200]
    for _ in range(2):
        assert ask(service, "POST", "/signout", b"", headers={**first, **FORM}).code == 303
        assert ask(service, "GET", "/v2", headers=first).code == 401
        assert b"Signed in" not in ask(service, "GET", "/signin", headers={**PAGE, **first}).body
    assert eventually(lambda: ask(beside, "GET", "/v2", headers=first).code == 401)
    again = paged()
    for at in (service, beside, again):
        assert [ask(at, "GET", "/v2", headers=signed).code for signed in (first, second)] == [401, 200]
    assert ask(service, "GET", "/v2", key=secret).code == 200
    with place.database.reading() as connection:
        assert len(connection.rows("SELECT mark FROM ended_sessions")) == 1


def test_what_is_no_session_is_not_kept_as_ended(paged, keys, ask, place):
    secret, _ = keys.create("ada")
    service = paged()
    cookie = cookie_of(sign_in(ask, service, secret))["Cookie"]
    for forged in (f"{cookie[:-1]}{'A' if cookie[-1] != 'A' else 'E'}", "modelmill_session=a.99999999999.b", "x=1"):
        assert ask(service, "POST", "/signout", b"", headers={"Cookie": forged, **FORM}).code == 303
    with place.database.reading() as connection:
        assert connection.rows("SELECT mark FROM ended_sessions") == []


def test_ended_sessions_are_forgotten_with_their_time_and_kept_within_bounds(place):
    with place.database.writing() as connection:
        for n in range(MOST):
            end(connection, f"m{n}", "one", 100 if n else 50, now_s=10.0)
        end(connection, "m1", "one", 100, now_s=10.0)
        end(connection, "other", "two", 100, now_s=10.0)
        with pytest.raises(Overloaded, match="keys rotate one"):
            end(connection, "more", "one", 100, now_s=49.0)
        end(connection, "more", "one", 100, now_s=50.0)
        assert {"m1", "more", "other"} < ended(connection)
        assert "m0" not in ended(connection)
        end(connection, "last", "one", 200, now_s=100.0)
        assert ended(connection) == {"last"}


def test_a_tenant_sees_only_its_models_on_the_pages_and_no_searches(paged, keys, ask):
    keys.tenant("acme", models=["acme-*"])
    keys.tenant("blue", models=["blue-*"])
    secret, _ = keys.create("ada", ["infer", "read"], "acme")
    service = paged()
    signed = {**PAGE, **cookie_of(sign_in(ask, service, secret))}
    index = ask(service, "GET", "/", headers=signed).body
    assert b"acme-risk" in index
    assert b"blue-risk" not in index
    assert ask(service, "GET", "/models/blue-risk", headers=signed).code == 404
    assert ask(service, "GET", "/models/acme-risk", headers=signed).code == 200
    default, root = keys.create("bob", ["read"])[0], keys.create("root", ["admin"])[0]
    assert eventually(lambda: ask(service, "GET", "/runs", key=root).code == 200)
    for path in ("/runs", "/api/runs"):
        assert ask(service, "GET", path, headers=signed).code == 403
        assert [ask(service, "GET", path, key=key).code for key in (default, root)] == [403, 200]
    assert ask(service, "GET", "/static/style.css").code == 200


def test_pages_link_to_what_the_key_opens_and_to_the_way_out(paged, keys, ask):
    infers, admin = keys.create("ada", ["infer"])[0], keys.create("root", ["admin"])[0]
    service = paged()
    wanted = ('href="/runs"', 'href="/metrics"', 'href="/signin">Sign out')
    for key, shown in ((infers, [False, False, True]), (admin, [True, True, True])):
        text = ask(service, "GET", "/", headers={**PAGE, **cookie_of(sign_in(ask, service, key))}).body.decode()
        assert [link in text for link in wanted] == shown
    icon = ask(service, "GET", "/favicon.ico")
    assert (icon.code, icon.headers["content-type"].partition(";")[0]) == (200, "image/svg+xml")


def test_without_keys_pages_link_to_everything_and_to_no_way_out(paged, ask):
    text = ask(paged(), "GET", "/", headers=PAGE).body.decode()
    assert [link in text for link in ('href="/runs"', 'href="/metrics"', 'href="/signin"')] == [True, True, False]


def test_a_session_over_tls_is_for_tls_alone(paged, keys, ask, tmp_path):
    from modelmill.serve.access.sessions import set_cookie

    assert "; Secure" in set_cookie("a", 1, secure=True)
    assert "Secure" not in set_cookie("a", 1, secure=False)


def test_the_secret_is_its_owners_and_stays(tmp_path):
    path = tmp_path / "home" / "session.key"
    first = secret_in(path)
    assert (len(first), secret_in(path)) == (32, first)
    assert path.stat().st_mode & 0o077 == 0
    assert [entry.name for entry in path.parent.iterdir()] == ["session.key"]
