"""What a report says of steps of compression, and of the machines on which that holds."""

from modelmill.evaluate.steps import beside, places, steps
from modelmill.trial import Outcome

HERE = {"instructions": ["avx2"], "exact": False, "bytes": 0, "saturating": 0}


def test_a_step_is_told_with_its_figures_and_its_verdict():
    kept = Outcome("quantize.static", {"rows": 512}, 1, True, "", (2000, 1000), (0.98, 0.97), (0.5, 0.45, 0.56))
    dropped = Outcome("distill.larger", {}, 0, False, "it makes the file larger", (1000, 2000))
    first, second = steps({"steps": [vars_of(dropped), vars_of(kept)]})
    assert (first["verdict"], first["why"], first["time"]) == ("dropped", "it makes the file larger", "")
    assert (second["verdict"], second["size"], second["quality"]) == ("kept", "2 → 1", "0.98 → 0.97")
    assert second["time"] == "0.50× (0.45 – 0.56)"


def test_a_slower_step_that_is_kept_says_why():
    insisted = Outcome("factor.svd", {}, 0, True, size_bytes=(10, 9), latency_ratio=(1.3, 1.2, 1.4), insisted=True)
    (row,) = steps({"steps": [vars_of(insisted)]})
    assert "a limit needs it" in row["why"]


def test_the_machines_are_named_and_what_saturates_is_told_with_both_qualities():
    assert "Nothing is computed in bytes" in places({"machines": HERE}, "accuracy")
    assert "with VNNI and without" in places({"machines": {**HERE, "bytes": 3}}, "accuracy")
    cut = {**HERE, "bytes": 3, "saturating": 2, "rows": 256, "whole": 0.97, "cut": 0.91}
    said = places({"machines": cut}, "accuracy")
    assert "2 of 3 operations" in said
    assert "0.97 with VNNI, and 0.91 without" in said


def test_a_child_is_told_beside_its_parent_and_a_build_has_no_parent():
    details = {"base": "digits@1", "latency_ratio": [0.5, 0.4, 0.6], "reused": [3, 4]}
    assert beside(details) == [
        "A row takes 0.50× (0.40 – 0.60) the time that digits@1 takes, measured in turns with it.",
        "Of 4 steps 3 were finished by earlier trials or runs, and not run again.",
    ]
    assert "it stays" in beside({**details, "stays": True})[0]
    assert beside({}) == []


def vars_of(outcome):
    import msgspec

    return msgspec.to_builtins(outcome)
