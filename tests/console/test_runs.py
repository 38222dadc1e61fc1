"""Who looks on sees every search of the ledger, and the one that runs as it goes on."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys

import pytest
from msgspec.structs import replace
from visits import Page, get

from modelmill.console.pages import Pages
from modelmill.evaluate.charts.axes import dot, svg
from modelmill.evaluate.charts.parallel import Rail, Thread, parallel
from modelmill.registry.registry import Registry
from modelmill.search.ledger.ledger import Ledger
from modelmill.serve.server import Service
from modelmill.serve.web.http import Reply, send_reply
from modelmill.store.home import Home
from modelmill.trial import Point, Trial

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

SPEC = {
    "name": "digits",
    "goal": {"maximize": "accuracy", "minimize": "latency_ms", "limit": {"size_kb": 9}, "budget": "20 trials"},
    "search": {"sampler": {"method": "portfolio"}},
}


def trial(number: int, state: str = "done") -> Trial:
    """Better and slower with its number; from 8 on too large."""
    settings = {"arch": "mlp", "arch.mlp.width": 2 + number}
    found = Trial(number, state, settings, memo={"member": "tpe"}, seconds=1.0, pick_s=0.002)
    if state != "done":
        return found
    costs = {"size_bytes": 1000.0 * (number + 2), "latency_ms": 0.1 + number / 50}
    curve = tuple(Point(i, {"valid_accuracy": 0.9 + number / 1000 - 0.1 / i}) for i in (1, 2, 3))
    return replace(found, metrics={"accuracy": 0.9 + number / 1000}, costs=costs, curve=curve)


@pytest.fixture
def place(tmp_path):
    found = Home(tmp_path / "home")
    yield found
    found.database.close()


@pytest.fixture
def ledger(place):
    """A search that runs: nine trials are done, one was stopped, one failed, and one runs."""
    found, _ = Ledger.open(place.database, "key", SPEC)
    for number in range(9):
        found.write(trial(number), number + 1.0)
    note = "stopped at step 2: behind the others"
    found.write(replace(trial(9, "stopped"), curve=(Point(2, {"valid_accuracy": 0.5}),), notes=(note,)), 10.0)
    found.write(replace(trial(10, "failed"), error="<script>alert(1)</script>"), 11.0)
    running = trial(11, "running")
    found.write(running, 12.0)
    found.report(running, Point(4, {"valid_accuracy": 0.87}))
    return found


@pytest.fixture
def live(place, ledger):
    with Service(Registry(place.database, place.blobs), [], pages=Pages(None, place.database)) as service:
        yield service.url


def test_runs_are_listed_with_what_they_were_asked_for(live):
    code, _, text = get(f"{live}/runs")
    assert code == 200
    assert "maximize accuracy, minimize latency, limit size 9 kB" in text
    assert "9 done, 1 failed, 1 running, 1 stopped" in text
    assert 'href="/runs/1"' in text


def test_a_run_shows_how_far_it_is_and_what_runs_now(live):
    text = get(f"{live}/runs/1")[2]
    words = " ".join(re.sub(r"<.*?>", " ", text).split())
    assert "running: 11 trials ended in 12 s · 8 on the front" in words
    assert "9 of 20 trials to go, about 9.8 s" in words
    assert "The best so far: trial 7, mlp" in words, "trial 8 is better, but over the limit"
    assert "trial 11 mlp, step 4: accuracy 0.87" in words
    assert 'aria-label="best accuracy so far, trial by trial"' in text
    assert 'aria-label="hypervolume of the front, trial by trial"' in text
    assert 'aria-label="accuracy against latency of 9 trials"' in text
    assert "behind the others" in words


def test_pages_of_runs_run_nothing_that_came_with_a_search(live):
    for path in ("/runs", "/runs/1"):
        _, headers, text = get(live + path)
        page = Page(text)
        assert "default-src 'self'" in headers["content-security-policy"]
        assert page.inline == []
        assert all(link.startswith(("/", "#")) for link in page.links)
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)" in text


def test_the_live_part_is_sent_only_when_something_changed(live, ledger):
    code, _, text = get(f"{live}/runs/1/live")
    stamp = re.search(r'data-stamp="([^"]+)"', text)[1]
    assert code == 200
    assert "<html" not in text
    assert get(f"{live}/runs/1/live?since={stamp}")[0] == 204
    ledger.report(replace(trial(11, "running"), curve=(Point(4, {}),)), Point(5, {"valid_accuracy": 0.88}))
    code, _, text = get(f"{live}/runs/1/live?since={stamp}")
    assert code == 200
    assert "step 5" in text


def test_programs_get_the_same_as_json(live):
    runs = json.loads(get(f"{live}/api/runs")[2])["runs"]
    assert [(run["id"], run["name"], run["state"]) for run in runs] == [(1, "digits", "running")]
    run = json.loads(get(f"{live}/api/runs/1")[2])
    assert (run["best"], run["front"][-1], len(run["trials"])) == (7, 7, 12)
    assert run["trials"][11]["curve"] == [{"step": 4, "values": {"valid_accuracy": 0.87}, "folds": 0}]
    assert run["trials"][0]["curve"] == [], "those that ended would make it long"
    for path in ("/api/runs/9", "/api/runs/x", "/api/runs/1/2"):
        code, _, text = get(live + path)
        assert code == 404
        assert json.loads(text) == {"error": f"there is no run {path.removeprefix('/api/runs/')}. See /api/runs."}


@pytest.mark.parametrize("path", ["/runs/9", "/runs/x", "/runs/1/x", "/runs/99999999999999", "/runs/9/live"])
def test_a_run_that_is_not_there_is_a_page_that_says_so(live, path):
    assert get(live + path)[0] == 404


def test_without_a_ledger_there_are_no_runs_and_no_link_to_them(site):
    assert get(f"{site}/runs")[0] == 404
    assert get(f"{site}/api/runs")[0] == 404
    assert "/runs" not in get(f"{site}/")[2]


def test_a_home_without_any_run_says_how_to_begin_one(place):
    with Service(Registry(place.database, place.blobs), [], pages=Pages(None, place.database)) as service:
        assert "Nothing was searched yet" in get(f"{service.url}/runs")[2]
        assert json.loads(get(f"{service.url}/api/runs")[2]) == {"runs": []}


def test_a_run_without_a_finished_trial_has_a_page(place):
    ledger, _ = Ledger.open(place.database, "key", SPEC)
    pages = Pages(None, place.database)
    assert b"No trial has begun yet" in pages.run(["1"], "").body
    ledger.write(trial(0, "running"), 0.0)
    assert b"No trial that was finished keeps the limits yet" in pages.run(["1"], "").body
    for number in range(3):
        ledger.write(replace(trial(number, "failed"), error="crashed"), 0.0)
    assert b"crashed" in pages.run(["1"], "").body


def test_looking_at_a_run_loads_none_of_what_training_needs(place, ledger):
    code = (
        "import sys; from modelmill.store.home import Home; from modelmill.console.pages import Pages;"
        f"pages = Pages(None, Home({str(place.path)!r}).database);"
        "assert pages.run(['1'], '').status == 200;"
        "assert not {'torch', 'sklearn', 'optuna', 'onnx', 'scipy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def dom(url, folder):
    """The document after its scripts have run."""
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", f"--user-data-dir={folder}/profile"]
    command = [CHROMIUM, *flags, "--virtual-time-budget=12000", "--dump-dom", url]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


PROBE = """
const tip = document.getElementById("tip");
const point = (mark, x, y) => {
  mark.dispatchEvent(new PointerEvent("pointermove", { bubbles: true, clientX: x, clientY: y }));
  return [tip.hidden ? "" : tip.textContent, [...document.querySelectorAll(".near")].map((one) => one.tagName).join()];
};
const dot = document.querySelector("circle"), picture = document.querySelector(".parallel");
const box = picture.getBoundingClientRect(), line = picture.querySelector("[data-n='2']").getBoundingClientRect();
const said = [point(dot, 5, 5), point(document.body, 1, 1), point(picture, (line.left + line.right) / 2, line.top + 1)];
document.body.textContent = JSON.stringify(said);
"""


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_pointing_at_a_mark_tells_of_its_trial_and_shows_it_in_all_pictures(tmp_path):
    rails = [Rail("width", [1, 5]), Rail("depth", [1, 5])]
    lines = parallel(rails, [Thread(1, "thread", "trial 1"), Thread(2, "thread", "trial 2")])
    dots = svg("dots", dot(10, 10, 4, "kept", "trial 1: mlp", 1))
    body = f'{dots}{lines}<div id="tip" hidden></div><script src="/static/pictures.js"></script>'

    async def probe(scope, receive, send):
        if scope["path"] == "/probe":
            page = f'<!doctype html><body>{body}<script src="/probe.js"></script></body>'
            await send_reply(Reply(200, page.encode(), "text/html"), send)
        elif scope["path"] == "/probe.js":
            await send_reply(Reply(200, PROBE.encode(), "text/javascript"), send)
        else:
            await Pages(None)(scope, receive, send)

    place = Home(tmp_path / "home")
    with Service(Registry(place.database, place.blobs), [], pages=probe) as service:
        found = json.loads(re.search(r"<body>(\[.*\])", dom(f"{service.url}/probe", tmp_path))[1])
    assert found == [["trial 1: mlp", "circle,polyline"], ["", ""], ["trial 2", "polyline"]]


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_an_open_page_takes_up_what_happens_and_stops_asking_when_the_run_ends(place, ledger, tmp_path):
    pages, asked = Pages(None, place.database), []

    async def watched(scope, receive, send):
        if scope["path"].endswith("/live"):
            asked.append(scope["query_string"])
            if len(asked) == 1:
                ledger.write(replace(trial(11), costs={"size_bytes": 10.0, "latency_ms": 0.01}), 13.0)
            else:
                ledger.close("finished")
        await pages(scope, receive, send)

    with Service(Registry(place.database, place.blobs), [], pages=watched) as service:
        text = dom(f"{service.url}/runs/1", tmp_path)
    assert "The best so far: trial 11" in text
    assert 'data-state="finished"' in text
    assert 'id="problem" class="problem" role="alert" hidden' in text
    assert len(asked) == 2
