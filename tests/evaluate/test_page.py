"""The page shows what the report holds, needs nothing else, and runs nothing that came with the data."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from xml.etree import ElementTree

import msgspec
import pytest

from modelmill.evaluate.page import page
from modelmill.report import Baseline, Counts, Data, Limit, Lineage, Report, Value
from modelmill.trial import Point, Trial

EVIL = '"><script>alert(1)</script>'


def points(top: float) -> tuple[Point, ...]:
    return tuple(
        Point(i, {"train_loss": 1 / i, "valid_loss": 1.2 / i, "valid_accuracy": top - 0.3 / i}) for i in range(1, 9)
    )


def report(**changes) -> Report:
    trials = [
        Trial(
            number,
            "done",
            {"arch": arch, f"arch.{arch}.width": 8 + number, "compress.prune.magnitude": number == 1}
            | ({"compress.prune.magnitude.ratio": 0.25} if number == 1 else {}),
            metrics={"accuracy": 0.9 + number / 100},
            costs={"size_bytes": 10_000.0 * (number + 1), "latency_ms": 0.1 * (number + 1)},
            curve=points(0.9 + number / 100) if arch == "cnn" else (),
        )
        for number, arch in enumerate(["tree", "cnn", "cnn"])
    ]
    trials.append(Trial(3, "failed", {"arch": "cnn"}, error=f"crashed {EVIL}"))
    whole = Report(
        name="digits",
        version=3,
        live=True,
        task="classify",
        data=Data("sha256:" + "0" * 64, 1797, 64),
        metrics={"accuracy": Value(0.91, "test", (0.88, 0.94)), "log_loss": Value(0.2, "test", (0.1, 0.3))},
        costs={"latency_ms": 0.2, "size_bytes": 20_000.0, "energy_mj": 1.0, "memory_mb": None},
        baseline=Baseline({"accuracy": Value(0.92)}, {"latency_ms": 0.4, "size_bytes": 60_000.0, "energy_mj": 2.0}),
        limits={"size_kb": Limit(25, 20.0, True), "latency_ms": Limit(0.1, 0.2, False)},
        pareto=[],
        trials=Counts(3, 0, 1),
        seconds=75.0,
        spec={"data": {"method": "builtin"}, "goal": {"maximize": "accuracy"}, "seed": 0},
        lineage=Lineage("sha256:" + "1" * 64, tools={"torch": "2.13"}),
        details={
            "trials": msgspec.to_builtins(trials),
            "winner": 1,
            "confusion": {"classes": ["cat", EVIL], "matrix": [[5, 2], [0, 7]]},
            "importance": {"arch": 0.7, EVIL: 0.2},
            "words": ["It generalizes."],
            "findings": [{"check": "constant", "severity": "warning", "where": EVIL, "message": "is constant"}],
            "card": {
                "origin": EVIL,
                "target": {"name": "digit", "classes": {"cat": 7, EVIL: 7}},
                "columns": [{"name": EVIL}],
            },
            "runners_up": [{"trial": 0, "why": "accuracy 0.01 lower"}],
            "energy_modelled": True,
            "latency": {"b1": {}, "b32": {"p50": 1.5, "baseline_p50": 3.0}},
        },
    )
    return msgspec.structs.replace(whole, **changes)


class Reader(HTMLParser):
    """Collects elements, links, text, and complains about elements that do not close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "br", "link"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data if not self.open or self.open[-1] not in ("style", "script") else ""


@pytest.fixture(scope="module")
def text() -> str:
    return page(report())


def test_the_page_is_whole_and_links_to_nothing(text: str) -> None:
    reader = Reader(text)
    assert reader.open == []
    for tag, attributes in reader.elements:
        assert not {"src", "href", "xlink:href", "style"} & attributes.keys(), tag
        assert not any(name.startswith("on") for name in attributes), tag
    assert not re.search(r"https?://|@import|url\(", text)


def test_names_from_the_data_never_become_elements(text: str) -> None:
    reader = Reader(text)
    assert [tag for tag, _ in reader.elements].count("script") == 1
    assert EVIL in reader.words, "the name is shown as it is"


def test_the_policy_allows_the_own_script_and_style_alone(text: str) -> None:
    policy = next(a["content"] for tag, a in Reader(text).elements if tag == "meta" and "http-equiv" in a)
    for tag in ("script", "style"):
        content = re.search(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)[1]
        digest = b64encode(sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")


def test_every_picture_is_well_formed(text: str) -> None:
    pictures = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(pictures) > 10
    for picture in pictures:
        ElementTree.fromstring(picture)


def test_the_figures_are_there_in_words(text: str) -> None:
    words = " ".join(Reader(text).words.split())
    assert "digits is a convolutional network (pruned 25 %), the best of 4 candidates in 75 s." in words
    assert "its accuracy is 0.91 (0.88 to 0.94)" in words
    assert "3.0× smaller" in words
    assert "2.0× faster" in words
    assert "energy (modelled)" in words
    assert "latency of 32 rows" in words
    assert "accuracy 0.01 lower" in words
    assert "was taken for" in words


def test_limits_say_whether_they_are_kept(text: str) -> None:
    said = [attributes.get("class") for tag, attributes in Reader(text).elements if tag == "li"]
    assert said[:2] == ["kept", "missed"]


def test_the_winner_stands_first_and_is_marked(text: str) -> None:
    rows = [a["class"] for tag, a in Reader(text).elements if tag == "tr" and "class" in a]
    assert rows[0] == "done winner"
    assert rows[-1] == "failed"
    assert text.count('class="halo"') == 3, "once against each cost, and once in the history"


def test_a_report_without_details_has_a_page() -> None:
    bare = page(report(details={}, limits={}, costs={}, metrics={}, trials=Counts()))
    assert Reader(bare).open == []


def test_a_report_read_back_from_json_has_the_same_page() -> None:
    again = msgspec.json.decode(msgspec.json.encode(report()), type=Report)
    assert page(again) == page(report())


def test_a_trial_whose_metric_was_not_defined_is_listed_without_it() -> None:
    details = dict(report().details)
    details["trials"] = [{**trial, "metrics": {"accuracy": None}} for trial in details["trials"]]
    assert "crashed" in Reader(page(report(details=details))).words


def test_residuals_are_drawn_for_a_regression() -> None:
    pairs = {"predicted": [1.0, 2.5, 3.0], "actual": [1.0, 2.0, 3.5]}
    drawn = page(report(task="regress", details={"residuals": pairs}))
    assert drawn.count('class="pair"') == 3
    assert "actual 2, predicted 2.5" in drawn
