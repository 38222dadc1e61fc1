"""Bodies that start from trained ones: whole, with another head, or cut down to some blocks and widths."""

import numpy as np
import pytest
import torch
from torch import nn

from modelmill.arch.cnn import Cnn
from modelmill.arch.mlp import Mlp
from modelmill.arch.subnetwork import Subnetwork
from modelmill.arch.trained import Trained
from modelmill.errors import ModelError, SpecError, UnknownModel
from modelmill.mill import Options, build, looked
from modelmill.model import Body
from modelmill.network.mixture import mixed
from modelmill.network.slicing import channels, removable
from modelmill.registry.registry import Registry
from modelmill.signature import Field, Signature
from modelmill.spec import read
from modelmill.store.home import Home


def signature(classes):
    return Signature("classify", (Field("x", "FP32", (-1, 6)),), (), tuple(range(classes)), "y", ())


@pytest.fixture
def base():
    module = Mlp(depth=4, width=8)(signature(3), (6,), 0)
    return Body("network", module, {"method": "mlp", "depth": 4, "width": 8}, (6,))


def test_a_trained_body_keeps_its_weights_and_the_base_stays_as_it_was(base):
    x = torch.randn(5, 6)
    copy = Trained(model="m@1")(base, signature(3), (6,), 1)
    assert torch.equal(copy.eval()(x), base.value.eval()(x))
    assert copy is not base.value


def test_other_classes_get_a_new_head_on_the_same_weights(base):
    other = Trained(model="m@1")(base, signature(5), (6,), 1)
    assert other[-1].out_features == 5
    assert torch.equal(other[0].weight, base.value[0].weight)
    assert base.value[-1].out_features == 3


def test_features_of_another_shape_are_refused(base):
    with pytest.raises(ModelError, match=r"shape \(6,\).*\(7,\)"):
        Trained(model="m@1")(base, signature(3), (7,), 0)


def test_of_several_networks_that_answer_as_one_none_is_changed_alone(base):
    both = Body("network", mixed([base.value, base.value], classify=True), {}, (6,))
    x = torch.randn(5, 6)
    same = Trained(model="m@1")(both, signature(3), (6,), 1)
    assert torch.equal(same.eval()(x), both.value.eval()(x))
    with pytest.raises(ModelError, match="several networks"):
        Trained(model="m@1")(both, signature(5), (6,), 1)
    with pytest.raises(ModelError, match="several networks"):
        Subnetwork(model="m@1")(both, signature(3), (6,), 1)


def test_blocks_that_go_leave_what_the_network_without_them_computes(base):
    x = torch.randn(5, 6)
    part = Subnetwork(model="m@1", blocks=(1, 0, 0))(base, signature(3), (6,), 0).eval()
    layers = list(base.value.eval())
    assert len(removable(base.value)) == 3
    expected = nn.Sequential(*layers[:6], *layers[12:])
    assert torch.equal(part(x), expected(x))


def test_widths_keep_the_largest_channels_with_their_weights(base):
    with torch.no_grad():
        base.value[0].weight[5] *= 100
    part = Subnetwork(model="m@1", widths=(0.125,))(base, signature(3), (6,), 0)
    assert part[0].weight.shape == (1, 6)
    assert torch.equal(part[0].weight[0], base.value[0].weight[5])
    assert part[3].weight.shape == (8, 1)


def test_residual_blocks_go_and_all_widths_of_a_cnn_shrink():
    module = Cnn(width=8, depth=2, blocks=3, residual=True, head="average")(signature(3), (1, 8, 8), 0)
    body = Body("network", module, {}, (1, 8, 8))
    assert len(removable(module)) == 5
    groups = len(channels(module))
    part = Subnetwork(model="m@1", blocks=(1, 0, 1, 0, 1), widths=(0.5,) * groups)(body, signature(3), (1, 8, 8), 0)
    assert part(torch.randn(2, 1, 8, 8)).shape == (2, 3)
    assert sum(p.numel() for p in part.parameters()) < 0.3 * sum(p.numel() for p in module.parameters())


def spec(arch, train, **more):
    return {"data": {"method": "builtin", "name": "wine"}, "arch": arch, "train": train, "compress": [], **more}


def test_a_search_over_parts_of_a_published_model_goes_the_ordinary_way(home):
    trained = {"method": "adam", "epochs": 15, "learning_rate": 0.01}
    goal = {"maximize": "accuracy", "budget": "1 trials"}
    (*_, large) = build(spec({"method": "mlp", "depth": 3, "width": 32}, trained, goal=goal, name="large"), Home(home))
    arch = {
        "method": "subnetwork",
        "model": "large",
        "blocks": [{"any": [0, 1]}, {"any": [0, 1]}],
        "widths": [{"low": 0.25, "high": 1.0}] * 3,
    }
    goal = {"maximize": "accuracy", "budget": "4 trials"}
    short = {**trained, "epochs": 2}
    (*_, small) = build(spec(arch, short, goal=goal, name="small", search={"folds": 1}), Home(home))
    assert small.spec["arch"]["model"] == "large@1"
    assert small.costs["size_bytes"] < large.costs["size_bytes"]
    assert small.metrics["accuracy"].value > 0.8
    # An heir can be started from as well.
    (*_, third) = build(spec({"method": "trained", "model": "small"}, short, goal=goal, name="third"), Home(home))
    assert third.metrics["accuracy"].value > 0.8


def test_what_cannot_be_started_from_is_refused_before_any_work(home):
    train = {"method": "adam"}
    with pytest.raises(UnknownModel):
        list(build(spec({"method": "trained", "model": "nobody"}, train), Home(home)))
    with pytest.raises(SpecError, match="model"):
        list(build(spec({"method": "trained"}, train), Home(home)))
    goal = {"maximize": "accuracy", "budget": "1 trials"}
    list(build(spec({"method": "tree"}, {}, goal=goal, name="trees"), Home(home)))
    with pytest.raises(ModelError, match="keeps no network"):
        list(build(spec({"method": "trained", "model": "trees@1"}, train), Home(home)))


def test_numbers_of_features_stay_with_the_body(home):
    import msgspec

    goal = {"maximize": "accuracy", "budget": "1 trials"}
    short = {"method": "adam", "epochs": 1}
    list(build(spec({"method": "mlp", "width": 4}, short, goal=goal, name="tiny"), Home(home)))
    found = Home(home)
    kept = msgspec.json.decode(Registry(found.database, found.blobs).file("tiny@1", "body.json"))
    assert np.prod(kept["features"]) == 13


def test_a_regression_goes_on_in_the_unit_that_it_was_trained_in(home):
    goal = {"maximize": "r2", "budget": "1 trials"}
    first = {"data": {"method": "builtin", "name": "diabetes"}, "goal": goal, "compress": [], "search": {"folds": 1}}
    trained = {"method": "adam", "epochs": 20}
    (*_, base) = build({**first, "name": "base", "arch": {"method": "mlp"}, "train": trained}, Home(home))
    still = {"method": "adam", "epochs": 1, "learning_rate": 1e-6, "average": 0.0}
    arch = {"method": "trained", "model": "base"}
    (*_, again) = build({**first, "name": "again", "arch": arch, "train": still}, Home(home))
    assert again.metrics["r2"].value == pytest.approx(base.metrics["r2"].value, abs=0.05)


def test_a_base_that_has_learned_from_these_rows_is_told(home):
    goal = {"maximize": "accuracy", "budget": "1 trials"}
    short = {"method": "adam", "epochs": 1}
    list(build(spec({"method": "mlp", "width": 4}, short, goal=goal, name="tiny"), Home(home)))
    found = Home(home)
    registry = Registry(found.database, found.blobs)

    def told(**more):
        wanted = spec({"method": "trained", "model": "tiny@1"}, short, goal=goal, **more)
        return [
            f.message + " " + f.hint for f in looked(read(wanted), registry, Options()).findings if f.check == "known"
        ]

    assert "from the validation rows Figures on validation rows flatter" in told()[0]
    assert "test rows: it was made with another seed Build with --seed 0" in told(seed=1)[0]
    assert not told(data={"method": "builtin", "name": "iris"})
