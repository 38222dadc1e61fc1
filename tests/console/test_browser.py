"""The pages in a real browser: they run under their policy, ask the service, and show what it says."""

from __future__ import annotations

import html
import http.client
import json
import os
import re
import subprocess
import sys
from urllib.parse import urlencode, urlsplit

import msgspec
import numpy as np
import pytest
from browser import CHROMIUM, FLAGS, browsing
from visits import get

from modelmill.console.pages import Pages
from modelmill.fragment import Writer
from modelmill.graph.build import to_onnx
from modelmill.registry.registry import Registry
from modelmill.serve.access.access import Access
from modelmill.serve.access.keys import Keys
from modelmill.serve.server import Service
from modelmill.serve.web.http import Reply, send_reply
from modelmill.signature import Field, Signature
from modelmill.store.home import Home

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")


def dom(url, profile, *more):
    """The document after its scripts have run."""
    command = [CHROMIUM, *FLAGS, *more, f"--user-data-dir={profile}", "--virtual-time-budget=8000", "--dump-dom", url]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def test_an_example_row_is_filled_in_and_answered(site, tmp_path):
    text = dom(f"{site}/models/flowers#example", tmp_path)
    assert '<p class="headline">long</p>' in text
    assert re.search(r'class="value"[^>]*>88\.1 %<', text)
    assert 'for="field-0"' in text
    assert f'curl {site}/predict/flowers -d \'[{{"length":2,"width":1}}]\'' in text
    assert "aria-busy" not in text


def test_what_has_one_element_a_row_is_a_plain_control(tmp_path):
    given = {"age": ("FP32", "array"), "city": ("BYTES", "category"), "flag": ("BOOL", "array")}
    fields = (
        *(Field(name, datatype, (-1, 1), kind) for name, (datatype, kind) in given.items()),
        Field("names", "BYTES", (-1, 2), "category"),
    )
    writer = Writer()
    outputs = tuple(msgspec.structs.replace(field, name=f"{field.name}_out") for field in fields)
    for field in fields:
        writer.rename(field.name, f"{field.name}_out")
    signature = Signature("compute", fields, outputs, example=([2.5], ["Ulm"], [True], ["a", "b"]))
    home = Home(tmp_path)
    shelf = Registry(home.database, home.blobs)
    shelf.publish("columns", {"model.onnx": to_onnx(writer.fragment(), fields, outputs)}, signature)
    with Service(shelf, ["columns"], pages=Pages(shelf)) as service:
        text = dom(f"{service.url}/models/columns#example", tmp_path / "profile")
    controls = re.findall(r'<label for="field-\d">(.*?)</label><(\w+)', text)
    assert controls == [
        ("age", "input"),
        ("city<small> text</small>", "input"),
        ("flag", "select"),
        ("names<small> 2 texts</small>", "textarea"),
    ]
    assert '-d \'[{"age":2.5,"city":"Ulm","flag":true,"names":["a","b"]}]\'' in text
    assert '"age_out": 2.5' in text
    assert '"flag_out": true' in text


def copied(text):
    """The curl line and the Python program of a page, as commands."""
    curl, python = (re.search(rf'<code id="{name}">(.*?)</code>', text, re.S)[1] for name in ("curl", "python"))
    return ["bash", "-c", html.unescape(curl)], [sys.executable, "-c", html.unescape(python)]


def run(command, **variables):
    return subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, timeout=60)


def test_the_programs_of_a_model_without_an_example_run_as_copied(tmp_path):
    fields = (
        Field("x", "FP32", (-1, 2, -1), "array"),
        Field("count", "INT64"),
        Field("age", "FP32", (-1, 1)),
        Field("day", "INT64", kind="date"),
        Field("city", "BYTES", kind="category"),
        Field("flag", "BOOL", kind="boolean"),
    )
    writer = Writer()
    outputs = tuple(msgspec.structs.replace(field, name=f"{field.name}_out") for field in fields)
    for field in fields:
        writer.rename(field.name, f"{field.name}_out")
    home = Home(tmp_path)
    shelf = Registry(home.database, home.blobs)
    made = to_onnx(writer.fragment(), fields, outputs)
    shelf.publish("plain", {"model.onnx": made}, Signature("compute", fields, outputs))
    with Service(shelf, ["plain"], pages=Pages(shelf)) as service:
        curl, python = copied(dom(f"{service.url}/models/plain", tmp_path / "profile"))
        assert json.loads(run(curl).stdout)["predictions"][0]["x_out"] == [[0], [0]]
        assert run(python).returncode == 0


def signed_in(url, key):
    """The cookie that the form of the sign-in page gives."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
    connection.request("POST", "/signin", urlencode({"key": key}), {"Sec-Fetch-Site": "same-origin"})
    cookie = connection.getresponse().headers["set-cookie"]
    connection.close()
    return cookie


@pytest.fixture
def entered(shelf, tmp_path):
    """A service with a key, and that key; `/static/enter/...` leads to `/...` with the cookie of who showed it."""
    home = Home(tmp_path / "home")
    keys = Keys(home.database)
    secret, _ = keys.create("ada", ["infer"])
    access = Access(home.database, home.path)
    pages = Pages(shelf)

    async def more(scope, receive, send):
        if scope["path"].startswith("/static/enter/"):
            onward = scope["path"].removeprefix("/static/enter")
            await send_reply(Reply(303, b"", headers=(("location", onward), ("set-cookie", cookie))), send)
        elif scope["path"] == "/static/signs-in":
            page = b'<!doctype html><body><script type="module" src="/static/signs-in.js"></script></body>'
            await send_reply(Reply(200, page, "text/html"), send)
        elif scope["path"] == "/static/signs-in.js":
            await send_reply(Reply(200, SIGNS_IN.replace("KEY", secret).encode(), "text/javascript"), send)
        else:
            await pages(scope, receive, send)

    with Service(shelf, ["flowers"], pages=more, access=access) as service:
        cookie = signed_in(service.url, secret)
        yield service.url, secret


def test_the_programs_for_who_is_signed_in_take_the_key_from_the_environment(entered, tmp_path):
    url, secret = entered
    text = dom(f"{url}/static/enter/models/flowers", tmp_path / "profile")
    assert secret not in text
    curl, python = copied(text)
    assert json.loads(run(curl, MODELMILL_KEY=secret).stdout)["predictions"][0]["label"] == "long"
    assert run(python, MODELMILL_KEY=secret).returncode == 0
    asked = dom(f"{url}/static/enter/docs", tmp_path / "profile")
    assert f'curl {url}/predict/flowers -H "Authorization: Bearer $MODELMILL_KEY" -H' in asked


SIGNS_IN = """
const child = window.open("/models/flowers#example");
async function until(found) {
  while (!found()) await fetch("/static/style.css");
}
await until(() => child.document.getElementById("key"));
child.document.getElementById("key").value = "KEY";
child.document.querySelector("form").requestSubmit();
await until(() => child.document.querySelector(".headline, .problem:not([hidden])"));
document.body.textContent = child.location.href + " " + child.document.querySelector(".headline").textContent;
"""


def test_who_signs_in_goes_on_to_the_very_place_that_was_asked_for(entered, tmp_path):
    url, _ = entered
    text = dom(f"{url}/static/signs-in", tmp_path / "profile", "--disable-popup-blocking")
    assert f"{url}/models/flowers#example long" in text


def test_a_picture_is_shown_on_a_pad_and_answered(site, tmp_path):
    text = dom(f"{site}/models/pictures#example", tmp_path)
    assert '<canvas class="pad"' in text
    assert "What the model sees: 8 × 8" in text
    assert '<p class="headline">0</p>' in text


def test_the_api_page_shows_every_operation(site, tmp_path):
    text = dom(f"{site}/docs", tmp_path)
    paths = json.loads(get(f"{site}/openapi.json")[2])["paths"]
    wanted = [(method, path) for path, methods in paths.items() for method in methods]
    shown = re.findall(r'<span class="method (\w+)">\w+</span><code>(.*?)</code>', text)
    assert sorted(shown) == sorted(wanted)
    assert "aria-busy" not in text


def test_the_api_page_says_how_to_ask_with_the_method_and_the_type_of_the_body(site, tmp_path):
    text = dom(f"{site}/docs", tmp_path)
    kind = "-H 'content-type: application/json'"
    asked = json.dumps({"method": "canary", "candidate": "2", "percent": 5}, separators=(",", ":"))
    assert f"curl -X PUT {site}/api/models/NAME/route {kind} -d '{asked}'" in text
    assert f"curl {site}/api/models/NAME/rollout {kind} -d '" in text
    assert "Answer 201, application/json" in text


def test_a_person_shows_a_key_and_uses_a_model_and_is_told_of_a_wrong_one(shelf, tmp_path):
    home = Home(tmp_path / "keys")
    secret, _ = Keys(home.database).create("ada", ["infer", "read"])
    access = Access(home.database, home.path)
    with Service(shelf, ["flowers"], pages=Pages(shelf), access=access) as service, browsing(tmp_path / "b") as tab:

        def show(key):
            tab.run(f"document.querySelector('#key').value = {json.dumps(key)}")
            tab.run("document.querySelector('main button').click()")

        tab.open(f"{service.url}/models/flowers")
        assert tab.sees("location.pathname === '/signin' && document.querySelector('#key') !== null")
        show("mm_00000000_" + "a" * 43)
        assert tab.sees("document.querySelector('[role=alert]')?.textContent.includes('does not open this service')")
        show(secret)
        assert tab.sees("location.pathname === '/models/flowers' && document.querySelector('#field-0') !== null")
        assert tab.run("document.cookie") == ""  # no script has what speaks for the person
        tab.run("document.querySelector('#fill').click()")
        tab.run("document.querySelector('#ask').click()")
        assert tab.sees("document.querySelector('.headline')?.textContent === 'long'")


PROBE = """
import { shrink, peakOf } from "/static/pixels.js";
const side = 336, ink = new Float32Array(side * side);
for (let y = 100; y < 268; y++) for (let x = 40; x < 82; x++) ink[y * side + x] = 1;
const small = shrink(ink, side, side, { rows: 8, columns: 8, peak: 16, whole: false });
const large = shrink(ink, side, side, { rows: 28, columns: 28, peak: 255, whole: true });
const none = shrink(new Float32Array(side * side), side, side, { rows: 8, columns: 8, peak: 16, whole: false });
const float = { datatype: "FP32" };
const peaks = [peakOf({ datatype: "UINT8" }, []), peakOf(float, [[0, 13]]), peakOf(float, [[0.5]])];
document.body.textContent = JSON.stringify({ small, large, none, peaks });
"""


@pytest.fixture
def probe(shelf):
    """A service whose pages hold one more, that runs a script against ours."""
    pages = Pages(shelf)

    async def more(scope, receive, send):
        if scope["path"] == "/probe":
            page = b'<!doctype html><body><script type="module" src="/probe.js"></script></body>'
            await send_reply(Reply(200, page, "text/html"), send)
        elif scope["path"] == "/probe.js":
            await send_reply(Reply(200, PROBE.encode(), "text/javascript"), send)
        else:
            await pages(scope, receive, send)

    with Service(shelf, ["flowers"], pages=more) as service:
        yield service.url


def test_a_drawing_is_cropped_centred_and_averaged_to_what_the_model_takes(probe, tmp_path):
    found = json.loads(re.search(r"<body>(\{.*\})", dom(f"{probe}/probe", tmp_path))[1])
    small = np.array(found["small"])
    # A bar of 168 x 42 pixels fills the height of 8 rows, 21 pixels each: two columns wide, in the middle.
    assert small.shape == (8, 8)
    assert (small[:, 3:5] == 16).all()
    assert small.sum() == 8 * 2 * 16
    large = np.array(found["large"])
    # On 28 x 28 it is 20 rows high, and leaves 4 above and below.
    assert large.max() == 255
    assert (large[:4] == 0).all()
    assert (large[24:] == 0).all()
    assert (large[4:24, 12:16] > 0).all()
    assert found["none"] is None
    assert found["peaks"] == [255, 16, 1]
