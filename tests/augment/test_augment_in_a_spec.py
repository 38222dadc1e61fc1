"""Tables of augmentations stand within `[train]`, and what is a range in them is searched."""

from __future__ import annotations

import pytest

from modelmill.checking import check
from modelmill.errors import OutOfBounds, SpecError, UnknownName
from modelmill.method import decode
from modelmill.spec import as_toml, pick, read


def spec(*steps, **settings):
    train = {"method": "adam", "augment": list(steps), **settings}
    return read({"data": {"method": "builtin", "name": "digits"}, "arch": {"method": "cnn"}, "train": train})


def picked(wanted, answers):
    asked = []

    def choose(dimension):
        asked.append(dimension)
        return answers.get(dimension.name, dimension.options[0] if dimension.options else dimension.low)

    return pick(wanted, choose), asked


def test_a_range_in_an_augmentation_is_a_dimension_of_the_search():
    wanted = spec({"method": "geometric", "rotate": {"low": 0.0, "high": 20.0}, "shift": 1}, {"method": "mixup"})
    check(wanted)
    found, asked = picked(wanted, {"train.adam.augment.1.geometric.rotate": 7.5})
    assert [(d.name, d.low, d.high, d.default) for d in asked] == [
        ("train.adam.augment.1.geometric.rotate", 0.0, 20.0, 0.0)
    ]
    assert found.train["augment"] == [{"method": "geometric", "rotate": 7.5, "shift": 1}, {"method": "mixup"}]
    assert list(decode("train", found.train).augment) == found.train["augment"]


def test_a_choice_of_augmentations_opens_only_its_own_ranges():
    options = [{"method": "colour", "brightness": {"low": 0.1, "high": 0.5}}, {"method": "photometric", "noise": 0.1}]
    wanted = spec({"any": options})
    check(wanted)
    first, asked = picked(wanted, {})
    assert [d.name for d in asked] == ["train.adam.augment.1", "train.adam.augment.1.colour.brightness"]
    second, asked = picked(wanted, {"train.adam.augment.1": "photometric"})
    assert [d.name for d in asked] == ["train.adam.augment.1"]
    assert (first.train["augment"], second.train["augment"]) == (
        [{"method": "colour", "brightness": 0.1}],
        [{"method": "photometric", "noise": 0.1}],
    )


def test_whole_lists_may_be_a_choice():
    wanted = spec()
    wanted = read(
        {
            "data": wanted.data,
            "arch": wanted.arch,
            "train": {**wanted.train, "augment": {"any": [[], [{"method": "mixup"}]]}},
        }
    )
    check(wanted)
    found, asked = picked(wanted, {})
    assert found.train["augment"] == []
    assert len(asked[0].options) == 2


def test_a_spec_with_augmentations_survives_its_file(tmp_path):
    wanted = spec({"method": "geometric", "rotate": {"low": 0.0, "high": 20.0}})
    path = tmp_path / "run.toml"
    path.write_text(as_toml(wanted))
    assert read(path).train == wanted.train


@pytest.mark.parametrize(
    ("steps", "error", "words"),
    [
        ([{"method": "geometrik"}], UnknownName, r"Did you mean geometric"),
        ([{"method": "geometric", "rotat": 3}], UnknownName, r"Did you mean rotate"),
        ([{"method": "geometric", "rotate": {"low": 0, "high": 300}}], OutOfBounds, r"geometric\.rotate = 300"),
        ([{"any": [{"method": "mixup", "alpha": 0}]}], OutOfBounds, r"mixup\.alpha = 0"),
        ([{"rotate": 3}], SpecError, r"train\.adam\.augment: the table names no method"),
    ],
)
def test_a_wrong_augmentation_is_refused_before_any_work(steps, error, words):
    with pytest.raises(error, match=words):
        check(spec(*steps))


@pytest.mark.parametrize("wrong", [3, {"method": "mixup"}, ["mixup"]])
def test_what_is_no_list_of_tables_is_refused(wrong):
    wanted = read({"data": {"method": "builtin", "name": "digits"}, "train": {"method": "adam", "augment": wrong}})
    with pytest.raises(OutOfBounds, match=r"train\.adam\.augment"):
        check(wanted)
