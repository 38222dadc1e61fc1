"""The Python face: builds from arrays, live modules and estimators, and what it refuses."""

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_wine
from sklearn.neighbors import KNeighborsClassifier

import modelmill
from modelmill.errors import ContentError, RequestError, UnknownModel, UnknownName, UsageError, WorkError

X, Y = load_wine(return_X_y=True)


def test_the_public_names_are_these_and_no_others():
    assert sorted(modelmill.__all__) == [
        "Client",
        "Loaded",
        "MillError",
        "__version__",
        "build",
        "compress_model",
        "import_model",
        "load",
        "publish_pipeline",
    ]
    for name in modelmill.__all__:
        assert getattr(modelmill, name) is not None


def test_arrays_are_built_into_a_version(home):
    report = modelmill.build((X, Y), name="wines", budget="2 trials", settings={"workers": 1})
    assert report.name == "wines"
    assert report.metrics["accuracy"].value > 0.8
    assert modelmill.load("wines").predict(X[:3])["label"].dtype == np.int64


def test_a_live_module_is_trained_and_milled_without_being_changed(home):
    import torch
    from torch import nn

    torch.manual_seed(0)
    module = nn.Sequential(nn.BatchNorm1d(13), nn.Linear(13, 8), nn.ReLU(), nn.Linear(8, 3))
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    report = modelmill.build((X, Y), name="net", budget="2 trials", model=module, settings={"workers": 1})
    assert report.metrics["accuracy"].value > 0.8
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert report.spec.get("arch", {}) == {}


def test_a_live_estimator_is_fitted_and_served(home):
    labels = np.array(["a", "b", "c"])[Y]
    model = KNeighborsClassifier(3)
    report = modelmill.build((X, labels), name="near", budget="1 trials", model=model, settings={"workers": 1})
    assert report.metrics["accuracy"].value > 0.8
    assert set(modelmill.load("near").predict(X[:50])["label"]) <= {"a", "b", "c"}
    assert not hasattr(model, "classes_")


def test_sample_weights_reach_training(home):
    x, y = load_diabetes(return_X_y=True)
    y = np.round(y, 1)
    low = (y < 100).astype(np.float32)
    spec = {"workers": 1, "sample_weight": low + 1e-6}
    weighted = modelmill.build((x, y), name="low", budget="1 trials", settings=spec)
    plain = modelmill.build((x, y), name="all", budget="1 trials", settings={"workers": 1})
    assert weighted.lineage.model != plain.lineage.model
    value = modelmill.load("low").predict(x)["value"].mean()
    assert value < modelmill.load("all").predict(x)["value"].mean() - 10


@pytest.mark.parametrize("weights", [[1.0, 2.0], -np.ones(178), np.full(178, np.nan), np.zeros(178)])
def test_weights_that_weigh_nothing_are_refused(home, weights):
    with pytest.raises(ContentError, match="sample_weight"):
        modelmill.build((X, Y), budget="1 trials", settings={"sample_weight": weights})


def test_a_module_that_no_other_process_can_import_is_refused(home):
    from torch import nn

    class Net(nn.Module):
        pass

    with pytest.raises(WorkError, match="another process"):
        modelmill.build((X, Y), budget="1 trials", model=Net())


def test_what_does_not_fit_is_refused(home):
    with pytest.raises(ContentError, match="177 targets"):
        modelmill.build((X, Y[:-1]), budget="1 trials")
    with pytest.raises(UsageError, match="neither a torch module nor an estimator"):
        modelmill.build((X, Y), model="svm", budget="1 trials")
    with pytest.raises(UnknownName, match="workers"):
        modelmill.build((X, Y), budget="1 trials", settings={"worker": 2})
    with pytest.raises(UnknownModel):
        modelmill.load("nothing")


def test_rows_that_do_not_fit_the_signature_are_refused(in_built):
    model = modelmill.load("iris")
    with pytest.raises(RequestError, match="row"):
        model.predict([[1.0, 2.0]])
    with pytest.raises(RequestError):
        model.predict([["long", 1, 1, 1]])
    with pytest.raises(UsageError, match="no input named 'petals'"):
        model.predict({"petals": [1.0]})
