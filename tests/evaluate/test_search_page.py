"""The page tells how the search went, whether it was small, large or odd."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import msgspec
import pytest
from made_up import WHY, report, trials

from modelmill.evaluate.page import page
from modelmill.evaluate.story import story
from modelmill.trial import Point, Trial


def pictures(text: str) -> dict[str, ElementTree.Element]:
    """Every picture by what a screen reader calls it."""
    drawn = [ElementTree.fromstring(found) for found in re.findall(r"<svg.*?</svg>", text, re.DOTALL)]
    return {picture.get("aria-label", ""): picture for picture in drawn}


def cells(text: str, table: str) -> list[list[str]]:
    """The rows of a table of the page."""
    body = re.search(rf'<table class="{table}">.*?<tbody>(.*?)</tbody>', text, re.DOTALL)[1]
    rows = re.findall(r"<tr.*?</tr>", body, re.DOTALL)
    return [[re.sub(r"<.*?>", "", cell).strip() for cell in re.findall(r"<t[hd].*?</t[hd]>", row)] for row in rows]


@pytest.fixture(scope="module")
def sixty() -> str:
    return page(report(trials(60)))


def test_every_pair_that_was_asked_about_has_a_picture_with_its_limits(sixty: str) -> None:
    drawn = pictures(sixty)
    assert {"accuracy against latency of 51 trials", "accuracy against size of 51 trials"} <= drawn.keys()
    said = {text.text for text in drawn["accuracy against size of 51 trials"].iter("text")}
    assert {"limit 100 kB", "at least 0.8"} <= said


def test_the_table_of_samplers_accounts_for_every_trial(sixty: str) -> None:
    rows = cells(sixty, "samplers")
    assert [row[0] for row in rows] == ["gp", "local", "tpe", "portfolio"]
    assert sum(int(row[1]) for row in rows) == 60
    assert sum(int(row[3]) for row in rows) == 9, "each that moved the search on is somebody's"
    assert "suggested by gp" in sixty


def test_what_the_search_itself_took_is_said(sixty: str) -> None:
    words = " ".join(re.sub(r"<.*?>", " ", sixty).split())
    assert "1 min 34 s of training (78 %), 26 s of measuring (21 %), 0.6 s of suggesting what to try" in words
    assert "A suggestion took 10 ms of processor time on average." in words


def test_what_was_stopped_is_listed_with_where_and_why(sixty: str) -> None:
    stopped, *rest = cells(sixty, "endings")
    assert stopped[:3] == ["5", "stopped at steps 2 to 6, half of them by step 4", WHY]
    assert stopped[4] == "#7, #18, #29, #40, #51"
    assert [row[1] for row in rest] == ["failed", "refused before training"]
    assert rest[0][2] == "grew over 13 MB (#13; the others alike)"
    assert re.fullmatch(r"its graph has \d+ kB untrained \(#\d+; the others alike\)", rest[1][2])
    assert "Stopped trials ran 4 epochs on average, those that ran to their end 8." in sixty


def test_importance_is_told_for_every_figure_that_was_asked_about(sixty: str) -> None:
    drawn = pictures(sixty)
    for name in ("accuracy", "latency", "size"):
        first = next(drawn[f"importance for {name}"].iter("text"))
        assert first.text == "arch.mlp.width"


def test_parallel_coordinates_begin_with_what_mattered_and_end_with_what_was_asked_for(sixty: str) -> None:
    drawn = pictures(sixty)["settings and figures of 51 trials"]
    names = [text.text for text in drawn.iter("text") if text.get("class", "").startswith("name")]
    assert names[0] == "width"
    assert names[-3:] == ["accuracy", "latency", "size"]
    assert len(names) == 11
    lines = list(drawn.iter("polyline"))
    assert lines[-1].get("class") == "thread won", "the winner lies above all others"
    assert any(line.get("class") == "thread faint" for line in lines), "those that break a limit are faint"


def test_the_same_trial_is_tied_together_in_all_pictures(sixty: str) -> None:
    marked = [name for name, drawn in pictures(sixty).items() if drawn.find(".//*[@data-n='1']") is not None]
    assert len(marked) >= 4


def test_two_thousand_trials_make_a_page_under_a_megabyte() -> None:
    text = page(report(trials(2000)))
    assert len(text.encode()) < 1_000_000
    assert "Of 2,000 trials the pictures show the best" in text
    assert "1,750 others are in report.json" in text
    for number in report(trials(2000)).details["course"]["moves"]:
        assert f'data-n="{number}"' in text


def test_three_trials_have_a_page_with_pictures() -> None:
    drawn = pictures(page(report(trials(3))))
    assert "settings and figures of 3 trials" in drawn
    assert not any(name.startswith("importance") for name in drawn), "three say nothing about what matters"


def test_a_search_in_which_all_failed_says_so_and_no_more() -> None:
    failed = [msgspec.structs.replace(t, state="failed", metrics={}, costs={}, curve=()) for t in trials(12)]
    text = page(report(failed, course={}))
    assert {row[1] for row in cells(text, "endings")} == {"failed"}
    assert not any("against" in name for name in pictures(text))


def test_an_objective_that_never_changes_and_figures_that_are_unknown_break_nothing() -> None:
    flat = [msgspec.structs.replace(t, metrics={"accuracy": 0.9} if t.metrics else {}) for t in trials(40)]
    assert "accuracy against size of" in page(report(flat))
    bare = report(trials(40))
    for trial in bare.details["trials"]:
        trial["costs"] = {"latency_ms": None, "size_bytes": None}
    assert "best accuracy so far" in page(bare)


def test_three_objectives_are_shown_in_pairs() -> None:
    goal = {"maximize": ["accuracy"], "minimize": ["latency_ms", "size_kb"]}
    drawn = pictures(page(report(trials(40), goal)))
    assert [name.split(" of ")[0] for name in drawn if "against" in name] == [
        "accuracy against latency",
        "accuracy against size",
        "size against latency",
    ]


def test_folds_are_marked_on_the_curve_and_in_words() -> None:
    curve = [
        Point(i, {"valid_accuracy": 0.5 + i / 20, "valid_loss": 1 / i}, fold) for fold in (0, 1) for i in (1, 2, 3)
    ]
    won = Trial(0, "done", {"arch": "mlp"}, metrics={"accuracy": 0.6}, curve=tuple(curve))
    note = f"stopped at fold 1, step 2: {WHY}"
    given_up = Trial(1, "stopped", {"arch": "mlp"}, curve=tuple(curve[:5]), notes=(note,))
    text = page(report([won, given_up]))
    assert ">fold 2</text>" in text
    assert f"trial 1 (mlp) was {note}" in text
    assert cells(text, "endings")[0][1:3] == ["stopped at step 2 of fold 2", WHY]


def test_an_older_report_without_the_course_of_its_search_has_a_page() -> None:
    old = report(trials(30))
    for key in ("course", "importances", "interplay"):
        del old.details[key]
    drawn = pictures(page(old))
    assert "importance for accuracy" in drawn
    assert story(old).moves == ()


def test_the_chains_of_an_annealed_search_are_told_in_words_and_figures() -> None:
    found = {
        "words": ["2 chains of 40 draws", "the chains have settled (R-hat 1.02)"],
        "numbers": {
            "train.adam.learning_rate": {"quartiles": [0.001, 0.01, 0.05], "size": 12.4, "agreement": 1.021},
            "arch.mlp.width": {"quartiles": [8, 16, 32], "size": None, "agreement": None},
        },
        "frequencies": {"arch": {"forest": 0.25, "mlp": 0.75}},
        "transitions": {"arch": {"mlp": {"mlp": 6, "forest": 2}, "forest": {"mlp": 1}}},
    }
    text = page(report(trials(20), chains=found))
    assert "The chains have settled (R-hat 1.02)." in text
    assert cells(text, "chains") == [
        ["train.adam.learning_rate", "0.01", "0.001 to 0.05", "12", "1.02"],
        ["arch.mlp.width", "16", "8 to 32", "", ""],
    ]
    assert "forest 25 %, mlp 75 %" in text
    assert "3 of 9" in text
