"""A spec is one TOML file whose ranges are the search space."""

import pytest

from modelmill.checking import check
from modelmill.errors import OutOfBounds, SourceError, SpecError, UnknownName
from modelmill.space import Dimension, cells, grid
from modelmill.spec import Budget, as_table, as_toml, pick, read, space

DESIGN = """
[data]
method = "builtin"
name = "digits"

[goal]
maximize = "accuracy"
limit = { latency_ms = 1, size_kb = 50 }
budget = "60s"

[search]
sampler = { method = "tpe" }

[arch]
any = [ { method = "mlp", depth = { low = 1, high = 4 } },
        { method = "cnn", width = { low = 8, high = 64, log = true } },
        { method = "boosting" } ]

[[compress]]
method = "prune.magnitude"
optional = true
ratio = { low = 0.1, high = 0.8 }

[[compress]]
method = "quantize.static"
optional = true
"""


@pytest.fixture
def spec(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text(DESIGN)
    return read(path)


def walked(spec, answers):
    asked = []

    def choose(dimension):
        asked.append(dimension.name)
        return answers.get(dimension.name, dimension.options[0] if dimension.options else dimension.low)

    return pick(spec, choose), asked


def test_the_spec_of_the_design_is_read_and_accepted(spec):
    check(spec)
    assert spec.goal.objectives == (("accuracy", "maximize"),)
    assert spec.goal.limit == {"latency_ms": 1, "size_kb": 50}


def test_a_range_in_a_table_exists_only_where_the_table_is_chosen(spec):
    _, asked = walked(spec, {"arch": "mlp"})
    assert "arch.mlp.depth" in asked
    assert "arch.cnn.width" not in asked


def test_a_step_that_cannot_take_the_body_does_not_exist_on_that_branch(spec):
    _, network = walked(spec, {"arch": "cnn", "compress.prune.magnitude": True})
    _, trees = walked(spec, {"arch": "boosting"})
    assert "compress.prune.magnitude.ratio" in network
    assert not [name for name in trees if name.startswith("compress.prune")]


def test_an_optional_step_may_be_left_out(spec):
    without, asked = walked(spec, {"arch": "cnn"})
    assert without.compress == ()
    assert "compress.prune.magnitude.ratio" not in asked
    taken, _ = walked(spec, {"arch": "cnn", "compress.quantize.static": True})
    assert [step["method"] for step in taken.compress] == ["quantize.static"]


def test_two_steps_with_a_choice_each_are_asked_for_apart():
    cuts = {"optional": True, "any": [{"method": "prune.blocks"}, {"method": "prune.heads"}]}
    fewer = {"optional": True, "any": [{"method": "quantize.static"}, {"method": "quantize.float16"}]}
    spec = read({"data": {}, "arch": {"method": "transformer"}, "compress": [cuts, {"method": "convert.clean"}, fewer]})
    answers = {"compress.1.step": True, "compress.1": "prune.heads", "compress.3.step": True}
    picked, asked = walked(spec, answers)
    assert asked == ["compress.1.step", "compress.1", "compress.3.step", "compress.3"]
    assert [step["method"] for step in picked.compress] == ["prune.heads", "convert.clean", "quantize.static"]


def test_a_picked_spec_has_no_ranges_left_and_picks_itself(spec):
    picked, _ = walked(spec, {"arch": "cnn", "compress.prune.magnitude": True})
    again, asked = walked(picked, {})
    assert asked == []
    assert again == picked


def test_a_spec_survives_toml(spec, tmp_path):
    path = tmp_path / "again.toml"
    path.write_text(as_toml(spec))
    assert as_table(read(path)) == as_table(spec)


def test_the_default_of_a_method_is_offered_with_its_range(spec):
    seen = {}

    def choose(dimension):
        seen[dimension.name] = dimension
        return dimension.options[0] if dimension.options else dimension.low

    pick(spec, choose)
    assert seen["arch.mlp.depth"].default in range(1, 5)
    assert seen["arch.mlp.depth"].integer


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"goal": {"maximize": "acuracy"}}, UnknownName, "accuracy"),
        ({"goal": {"limit": {"latency": 1}}}, UnknownName, "latency_ms"),
        ({"goal": {"limit": {"size_kb": 0}}}, OutOfBounds, "above 0"),
        ({"goal": {"limits": {"size_kb": 5}}}, UnknownName, "limit"),
        ({"goal": {"budget": "soon"}}, OutOfBounds, "40 trials"),
        ({"arch": {"method": "mlpp"}}, UnknownName, "mlp"),
        ({"arch": {"method": "mlp", "depht": 2}}, UnknownName, "depth"),
        ({"arch": {"method": "mlp", "depth": {"low": 4, "high": 1}}}, OutOfBounds, "low is above high"),
        ({"arch": {"method": "mlp", "depth": {"low": -1, "high": 2}}}, OutOfBounds, "depth = -1"),
        ({"arch": {"method": "mlp", "width": {"low": 0, "high": 8, "log": True}}}, OutOfBounds, "logarithmic"),
        ({"arch": {"method": "mlp", "depth": {"low": 1, "high": "x"}}}, OutOfBounds, r"high = x.*ends .* are numbers"),
        ({"arch": {"any": 5}}, SpecError, r"arch\.any.*expected a list of options, got 5"),
        ({"compress": [{"method": "prune.trees", "ratio": {"any": 0.5}}]}, SpecError, r"compress\.1\.ratio\.any"),
        ({"compres": []}, UnknownName, "compress"),
        ({"arch": {"any": []}}, SpecError, "empty"),
        ({"seed": "one"}, OutOfBounds, "seed"),
    ],
)
def test_what_is_wrong_is_said_before_any_work(changes, error, words):
    with pytest.raises(error, match=words):
        check(read({"data": {"method": "builtin", "name": "iris"}, **changes}))


def test_a_step_that_fits_no_branch_is_refused():
    spec = read(
        {
            "data": {"method": "builtin", "name": "iris"},
            "arch": {"any": [{"method": "boosting"}, {"method": "tree"}]},
            "compress": [{"method": "prune.magnitude"}],
        }
    )
    with pytest.raises(SpecError, match="fits no branch"):
        check(spec)


def test_a_step_after_the_graph_was_made_fits_no_branch():
    spec = read(
        {
            "data": {"method": "builtin", "name": "iris"},
            "arch": {"method": "mlp"},
            "compress": [{"method": "quantize.dynamic"}, {"method": "prune.magnitude"}],
        }
    )
    with pytest.raises(SpecError, match=r"prune\.magnitude: fits no branch"):
        check(spec)


def test_a_missing_spec_file_is_named(tmp_path):
    with pytest.raises(SourceError, match=r"no\.toml"):
        read(tmp_path / "no.toml")


def test_a_spec_that_is_not_toml_names_the_line(tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text("[data]\nmethod = \n")
    with pytest.raises(SpecError, match="line 2"):
        read(path)


@pytest.mark.parametrize(
    ("text", "seconds", "trials"), [("60s", 60, None), ("15m", 900, None), ("2h", 7200, None), ("40 trials", None, 40)]
)
def test_budgets_are_read(text, seconds, trials):
    assert Budget.parse(text) == Budget(seconds, trials)


@pytest.mark.parametrize("text", ["", "60", "-5s", "0s", "2.5 trials", "1d", "s"])
def test_what_is_no_budget_is_refused(text):
    with pytest.raises(OutOfBounds):
        Budget.parse(text)


def test_cells_of_a_conditional_space_are_each_met_once():
    def walk(choose):
        if choose(Dimension("body", options=("a", "b"))) == "a":
            choose(Dimension("a.depth", low=1, high=3, integer=True))
        else:
            choose(Dimension("b.rate", low=0.0, high=1.0, step=0.5))

    met = [tuple(sorted(cell.items())) for cell in cells(walk)]
    assert len(met) == len(set(met)) == 6


def test_a_logarithmic_grid_is_even_in_ratio():
    assert grid(Dimension("x", low=1, high=100, log=True), points=3) == pytest.approx([1, 10, 100])


def test_the_space_of_a_spec_can_be_walked_again_and_again(spec):
    walk = space(spec)
    first = _names(walk)
    assert first == _names(walk)


def _names(walk):
    found = []

    def choose(dimension):
        found.append(dimension.name)
        return dimension.options[0] if dimension.options else dimension.low

    walk(choose)
    return found


def test_an_empty_list_of_compression_steps_is_none_and_is_kept():
    spec = read({"data": {"method": "builtin", "name": "iris"}, "compress": []})
    assert spec.compress == ()
    assert read(as_table(spec)).compress == ()
    assert read({"data": {"method": "builtin", "name": "iris"}}).compress is None
    from modelmill.recipe.look import look

    assert look(spec).job.spec.compress == ()


ANEW = """
[[compress]]
method = "input.prepare"
keep = { low = 0.25, high = 1.0 }
prepare = [ { method = "impute" }, { method = "bucket", count = { any = [4, LAST] } } ]
"""


def anew(tmp_path, text):
    path = tmp_path / "anew.toml"
    path.write_text(DESIGN + text)
    return read(path)


def test_steps_of_preparation_within_a_step_of_compression_are_searched(tmp_path):
    name = "compress.input.prepare.prepare.2.bucket.count"
    found, asked = walked(anew(tmp_path, ANEW.replace("LAST", "16")), {name: 16})
    assert name in asked
    step = found.compress[-1]
    assert [inner["method"] for inner in step["prepare"]] == ["impute", "bucket"]
    assert step["prepare"][1]["count"] == 16


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        (ANEW.replace("LAST", "1"), OutOfBounds, "bucket.count"),
        (ANEW.replace("LAST", "8").replace("bucket", "bukket"), UnknownName, "bucket"),
    ],
)
def test_steps_of_preparation_within_a_step_of_compression_are_checked(tmp_path, text, error, words):
    with pytest.raises(error, match=words):
        check(anew(tmp_path, text))
