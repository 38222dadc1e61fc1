"""Models from outside: an ONNX file becomes a version that is predicted with, served, judged and shown."""

import json

import numpy as np
import onnx
import pytest
from foreign_files import INT64, encoder, helper, model, recurrent, scores, value
from onnx import TensorProto, numpy_helper

import modelmill
from modelmill.api import home as home_of
from modelmill.api import registry
from modelmill.cli import run
from modelmill.data.read import read_for
from modelmill.errors import ModelError, RequestError, UsageError
from modelmill.evaluate.judge import evaluate
from modelmill.graph.digest import digest
from modelmill.registry.examine import Request, examine
from modelmill.runtime.session import Session
from modelmill.serve.models.endpoint import load


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home folder of this test alone."""
    monkeypatch.setenv("MODELMILL_HOME", str(tmp_path / "home"))


@pytest.fixture
def saved(tmp_path):
    """Writes a model to a file."""

    def save(proto, name="model.onnx"):
        path = tmp_path / name
        path.write_bytes(proto.SerializeToString())
        return path

    return save


@pytest.fixture
def taken(saved, tmp_path):
    """A model as it is after its examination, in this process: the answer and the bytes."""

    def take(proto, **wanted):
        path = saved(proto)
        answer = examine(Request(str(path), str(tmp_path / "made.onnx"), **wanted))
        return answer, (tmp_path / "made.onnx").read_bytes()

    return take


def shapes(fields):
    return {field.name: (field.datatype, field.shape, field.axis) for field in fields}


def test_a_file_becomes_a_version_with_its_own_names_and_answers(home, saved, capsys):
    path = saved(scores(), "My model (2).onnx")
    assert run(["import", str(path), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["name"], report["version"], report["live"], report["task"]) == ("My-model-2", 1, True, "compute")
    assert report["lineage"]["source"] == digest(path.read_bytes())
    assert {"modelmill", "onnx", "onnxruntime"} <= set(report["lineage"]["tools"])
    version = registry().find("My-model-2")
    assert report["lineage"]["model"] == version.files["model.onnx"]
    assert shapes(version.signature.inputs) == {"features": ("FP32", (-1, 4), 0)}
    x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    found = modelmill.load("My-model-2").predict({"features": x})
    assert np.allclose(found["scores"], Session(path).run({"features": x})["scores"])


def test_what_says_nothing_of_the_answers_is_taken_out(taken):
    _, graph = taken(scores())
    assert b"traced here" not in graph
    assert b"/head/MatMul" not in graph
    assert b"elsewhere" not in graph


def sparse(weight, flat, name="w"):
    """A sparse tensor of the numbers of a weight that are not zero."""
    places = np.flatnonzero(weight) if flat else np.argwhere(weight)
    values = numpy_helper.from_array(weight[weight != 0], name)
    return helper.make_sparse_tensor(values, numpy_helper.from_array(places, "places"), list(weight.shape))


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("constant", [True, False])
def test_sparse_weights_are_written_out_so_that_whatever_comes_after_knows_them(taken, flat, constant):
    rng = np.random.default_rng(0)
    weight = (rng.normal(size=(4, 3)) * (rng.random((4, 3)) < 0.4)).astype(np.float32)
    proto = scores()
    del proto.graph.initializer[:]
    if constant:
        node = helper.make_node("Constant", [], ["w"], sparse_value=sparse(weight, flat))
        proto.graph.node.insert(0, node)
    else:
        proto.graph.sparse_initializer.append(sparse(weight, flat))
    answer, graph = taken(proto)
    assert answer.notes[0] == "w: a sparse tensor was written out"
    onnx.checker.check_model(onnx.load_from_string(graph))
    assert b"sparse" not in graph
    x = rng.normal(size=(5, 4)).astype(np.float32)
    assert np.allclose(Session(graph).run({"features": x})["scores"], x @ weight, atol=1e-6)


def test_importing_twice_gives_a_second_version_of_the_same_bytes_that_is_not_live(home, saved):
    path = saved(scores())
    first, second = (modelmill.import_model(path, "twice") for _ in range(2))
    assert (second.version, second.live) == (2, False)
    assert first.lineage.model == second.lineage.model
    assert registry().verify("twice@2") == []


def test_rows_are_found_by_running_states_within_and_values_for_all(taken):
    answer, graph = taken(recurrent())
    assert shapes(answer.inputs) == {
        "input": ("FP32", (-1, -1), 0),
        "state": ("FP32", (2, -1, 3), 1),
        "sr": ("INT64", (), None),
    }
    assert shapes(answer.outputs)["stateN"] == ("FP32", (-1, -1, -1), 1)
    assert Session(graph).axes == {"input": 0, "state": 1, "sr": None, "output": 0, "stateN": 1}
    assert answer.example[2] == 16000
    assert len(answer.example[0]) == 8, "the smallest of the sizes that are tried and run"
    assert "sr is one value for all rows of a call" in answer.notes


@pytest.mark.parametrize("shape", [["n"], ["n", 2]], ids=["a text a row", "two"])
def test_texts_are_taken_in(taken, shape):
    node = helper.make_node("Identity", ["given"], ["same"])
    text = TensorProto.STRING
    answer, _ = taken(model([node], [value("given", shape, text)], [value("same", shape, text)]))
    sizes = (-1, *shape[1:])
    assert shapes(answer.inputs) == {"given": ("BYTES", sizes, 0)}
    assert shapes(answer.outputs) == {"same": ("BYTES", sizes, 0)}


def test_every_input_of_an_encoder_has_its_rows_first(taken):
    answer, _ = taken(encoder())
    assert shapes(answer.inputs)["attention_mask"] == ("INT64", (-1, -1), 0)
    assert shapes(answer.outputs) == {"last_hidden_state": ("FP32", (-1, -1, 6), 0)}
    assert answer.example == ()


def test_a_fixed_batch_is_told_and_one_that_only_seems_free_is_fixed(taken):
    answer, _ = taken(scores(rows=1))
    assert (answer.inputs[0].shape, answer.notes) == ((1, 4), ("takes 1 row at a time",))
    frozen = scores()
    frozen.graph.node.append(helper.make_node("Reshape", ["scores", "one_row"], ["flat"]))
    frozen.graph.initializer.append(helper.make_tensor("one_row", INT64, [2], [1, 3]))
    frozen.graph.output[0].CopyFrom(value("flat", ["batch_size", 3]))
    answer, _ = taken(frozen)
    assert answer.inputs[0].shape == (1, 4)


def rowwise(*nodes, **weights):
    """A model of nodes from x to y, both (rows, 4)."""
    return model(nodes, [value("x", ["rows", 4])], [value("y", ["rows", 4])], weights)


AXIS = {"axis": np.array([0])}
COUPLED = {
    "mean": rowwise(
        helper.make_node("ReduceMean", ["x", "axis"], ["m"], keepdims=1),
        helper.make_node("Sub", ["x", "m"], ["y"]),
        **AXIS,
    ),
    "softmax": rowwise(helper.make_node("Softmax", ["x"], ["y"], axis=0)),
    "those before": rowwise(helper.make_node("CumSum", ["x", "first"], ["y"]), first=np.array(0)),
    "others' places": rowwise(
        helper.make_node("TopK", ["x", "one"], ["best", "at"], axis=0),
        helper.make_node("Gather", ["x", "at"], ["g"]),
        helper.make_node("ReduceSum", ["g", "axis"], ["s"], keepdims=0),
        helper.make_node("ReduceSum", ["s", "axis"], ["t"], keepdims=0),
        helper.make_node("Add", ["x", "t"], ["y"]),
        one=np.array([1]),
        **AXIS,
    ),
}
APART = {
    "matrix": scores(),
    "within a row": rowwise(helper.make_node("Softmax", ["x"], ["y"], axis=1)),
    "scaled anew in every call": rowwise(
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
    ),
    "state": recurrent(),
    "tokens": encoder(),
}


@pytest.mark.parametrize("case", COUPLED)
def test_rows_that_belong_together_are_found_by_asking_them_alone_and_together(taken, case):
    answer, _ = taken(COUPLED[case])
    assert answer.series
    assert "belong together" in answer.notes[-1]


@pytest.mark.parametrize("case", APART)
def test_rows_that_are_apart_stay_so(taken, case):
    answer, _ = taken(APART[case])
    assert not answer.series


def test_calls_of_a_model_whose_rows_belong_together_are_never_joined_nor_cut(home, saved):
    assert run(["import", str(saved(COUPLED["mean"])), "--name", "mean"]) == 0
    version = registry().find("mean")
    endpoint = load(version, registry().file(version, "model.onnx"), lambda name, number: None)
    assert not endpoint.lane.batches


def test_a_row_that_cannot_be_made_up_is_taken_from_an_example(taken, tmp_path):
    proto = model(
        [helper.make_node("Reshape", ["x", "to"], ["y"])],
        [value("x", ["n", "odd"])],
        [value("y", [None, 7, 3])],
        {"to": np.array([-1, 7, 3])},
    )
    # Any size that has 21 as a divisor would do, and none that is tried has.
    with pytest.raises(ModelError, match=r"no made-up row runs: .*--example"):
        taken(proto)
    np.savez(tmp_path / "rows.npz", x=np.ones((2, 42), np.float32))
    answer, _ = taken(proto, example=str(tmp_path / "rows.npz"))
    assert len(answer.example[0]) == 42
    np.savez(tmp_path / "rows.npz", z=np.ones((2, 42), np.float32))
    with pytest.raises(ModelError, match=r"no input is named 'z'.*There are x"):
        taken(proto, example=str(tmp_path / "rows.npz"))


@pytest.mark.parametrize(("classes", "labels"), [((), [2, 0]), (("ant", "bee", "cat"), ["cat", "ant"])])
def test_scores_become_labels_and_probabilities_where_they_are_said_to(taken, classes, labels):
    weights = np.eye(4, 3, dtype=np.float32)
    answer, graph = taken(scores(weights=weights), task="classify", classes=classes)
    assert answer.classes == (classes or (0, 1, 2))
    assert [field.name for field in answer.outputs] == ["label", "probabilities"]
    found = Session(graph).run({"features": np.array([[0, 1, 2, 9], [3, 1, 2, 9]], np.float32)})
    assert found["label"].tolist() == labels
    odds = np.exp([[0, 1, 2], [3, 1, 2]])
    assert np.allclose(found["probabilities"], odds / odds.sum(1, keepdims=True))
    assert answer.notes == ("label and probabilities are made of scores: softmax (the made-up row has none)",)


def test_probabilities_stay_and_a_single_score_is_that_of_the_second_class(taken):
    proto = scores()
    proto.graph.node.append(helper.make_node("Softmax", ["scores"], ["sure"], axis=-1))
    proto.graph.output[0].CopyFrom(value("sure", ["batch_size", 3]))
    answer, _ = taken(proto, task="classify")
    (note,) = answer.notes
    assert note == "label and probabilities are made of sure: taken as probabilities (they come from Softmax)"
    single, graph = taken(
        scores(classes=1, weights=np.ones((4, 1), np.float32) - 0.5), task="classify", classes=("n", "y")
    )
    found = Session(graph).run({"features": np.array([[2, 2, 2, 2], [-2, -2, -2, -2]], np.float32)})
    assert found["label"].tolist() == ["y", "n"]
    assert single.classes == ("n", "y")


def tailed(classes, *tail, bias=0.0, **weights):
    """Scores with a bias, and operations behind them: type, inputs, output; the last one's output is the file's."""
    proto = scores(classes, weights=np.random.default_rng(0).normal(size=(4, classes)).astype(np.float32))
    proto.graph.initializer.append(numpy_helper.from_array(np.full(classes, bias, np.float32), "b"))
    nodes = [("Add", ["scores", "b"], "z"), *tail]
    proto.graph.node.extend(helper.make_node(kind, given, [gives]) for kind, given, gives in nodes)
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    proto.graph.output[0].CopyFrom(value(nodes[-1][2], ["batch_size", None]))
    return proto


@pytest.mark.parametrize("bias", [0.0, 0.4])
def test_one_raw_score_is_no_probability_whatever_the_row_of_zeros_gives(taken, bias):
    answer, graph = taken(tailed(1, bias=bias), task="classify")
    (note,) = answer.notes
    assert note == "label and probabilities are made of z: logistic function (random rows have none)"
    x = np.random.default_rng(1).normal(size=(50, 4)).astype(np.float32) * 9
    found = Session(graph).run({"features": x})
    z = Session(tailed(1, bias=bias).SerializeToString()).run({"features": x})["z"][:, 0]
    assert np.allclose(found["probabilities"][:, 1], 1 / (1 + np.exp(-z)), atol=1e-6)
    assert (found["label"] == (z > 0)).all()


def test_two_raw_scores_with_biases_that_add_up_to_one_are_no_probabilities(taken):
    answer, _ = taken(tailed(2, bias=np.array([0.7, 0.3])), task="classify")
    assert "softmax (random rows have none)" in answer.notes[0]


BEHIND = {
    "a logistic function": (1, [("Sigmoid", ["z"], "p")], "Sigmoid"),
    "seen through what changes nothing": (1, [("Sigmoid", ["z"], "q"), ("Identity", ["q"], "p")], "Sigmoid"),
    "p and the rest": (
        1,
        [("Sigmoid", ["z"], "q"), ("Sub", ["one", "q"], "rest"), ("ConcatOf", ["rest", "q"], "p")],
        "Sigmoid",
    ),
}


@pytest.mark.parametrize("case", BEHIND)
def test_what_comes_from_an_operation_that_makes_probabilities_is_taken_as_such(taken, case):
    classes, tail, by = BEHIND[case]
    proto = tailed(classes, *tail, one=np.ones(1, np.float32))
    for node in proto.graph.node:
        if node.op_type == "ConcatOf":
            node.CopyFrom(helper.make_node("Concat", node.input, node.output, axis=1))
    answer, graph = taken(proto, task="classify")
    assert answer.notes[0].endswith(f"taken as probabilities (they come from {by})")
    x = np.ones((3, 4), np.float32)
    p = Session(proto.SerializeToString()).run({"features": x})["p"][:, -1]
    assert np.allclose(Session(graph).run({"features": x})["probabilities"][:, 1], p)


def test_several_logistic_functions_are_no_probabilities_of_classes_though_one_row_adds_up(taken):
    answer, _ = taken(tailed(2, ("Sigmoid", ["z"], "p")), task="classify")
    assert "softmax (random rows have none)" in answer.notes[0]


def test_where_no_operation_tells_random_rows_do(taken):
    tail = [
        ("Mul", ["z", "little"], "calm"),
        ("Exp", ["calm"], "odds"),
        ("ReduceSum", ["odds", "last"], "all"),
        ("Div", ["odds", "all"], "p"),
    ]
    proto = tailed(3, *tail, little=np.full(1, 1e-3, np.float32), last=np.array([1]))
    answer, _ = taken(proto, task="classify")
    assert answer.notes[0].endswith("taken as probabilities (48 random calls all gave some)")


def test_probabilities_of_a_fixed_number_of_rows_stay_too(taken):
    proto = tailed(3, ("Softmax", ["z"], "p"))
    proto.graph.input[0].CopyFrom(value("features", [4, 4]))
    proto.graph.output[0].CopyFrom(value("p", [4, 3]))
    answer, _ = taken(proto, task="classify")
    assert answer.notes[0].endswith("taken as probabilities (they come from Softmax)")


def test_one_row_is_answered_where_a_value_is_one_for_the_whole_call(home, saved, tmp_path, capsys):
    nodes = [helper.make_node("Mul", ["x", "scale"], ["y"])]
    modelmill.import_model(saved(model(nodes, [value("x", ["n", 2]), value("scale", [])], [value("y", ["n", 2])])), "s")
    for rows in (1, 2):
        np.savez(tmp_path / "rows.npz", x=np.ones((rows, 2), np.float32), scale=np.full(rows, 3, np.float32))
        assert run(["predict", "s", "--input", str(tmp_path / "rows.npz"), "--output", str(tmp_path / "out.csv")]) == 0
        assert len((tmp_path / "out.csv").read_text().splitlines()) == rows + 1
    capsys.readouterr()


def test_a_converted_estimator_keeps_its_classes_and_needs_no_maps(taken):
    from skl2onnx import to_onnx
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    x, y = load_iris(return_X_y=True)
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    fitted = LogisticRegression(max_iter=500).fit(x.astype(np.float32), names)
    answer, graph = taken(to_onnx(fitted, x[:1].astype(np.float32)), task="classify")
    assert answer.classes == ("setosa", "versicolor", "virginica")
    found = Session(graph).run({answer.inputs[0].name: x.astype(np.float32)})
    assert found["label"].tolist() == fitted.predict(x).tolist()
    assert np.allclose(found["probabilities"], fitted.predict_proba(x), atol=1e-5)


def test_one_number_a_row_becomes_a_value_and_more_are_refused(taken):
    answer, graph = taken(scores(classes=1), task="regress")
    assert shapes(answer.outputs) == {"value": ("FP32", (-1,), 0)}
    assert Session(graph).run({"features": np.ones((2, 4), np.float32)})["value"].tolist() == [6, 6]
    with pytest.raises(ModelError, match="expected one number a row"):
        taken(scores(), task="regress")
    with pytest.raises(ModelError, match="3 classes, and 2 are named"):
        taken(scores(), task="classify", classes=("a", "b"))
    with pytest.raises(ModelError, match=r"no output is named 'score'.*There are scores"):
        taken(scores(), task="classify", output="score")


def test_an_imported_classifier_is_judged_like_one_of_ours(home, saved, tmp_path, capsys):
    from sklearn.datasets import load_iris

    x, y = load_iris(return_X_y=True)
    path = saved(scores(weights=np.linalg.lstsq(x, np.eye(3)[y], rcond=None)[0].astype(np.float32)))
    np.savez(tmp_path / "iris.npz", x=x.astype(np.float32), y=y)
    assert run(["import", str(path), "--name", "lines", "--task", "classify", "--target", "y"]) == 0
    capsys.readouterr()
    lines = modelmill.load("lines")
    data = read_for(lines.version.signature, tmp_path / "iris.npz", labeled=True)
    assert evaluate(lines.graph, data, lines.version.signature, ["accuracy"], "test", 0)["accuracy"].value > 0.8


def test_without_a_task_a_version_is_judged_against_another(home, saved, tmp_path, capsys):
    rows = tmp_path / "rows.npz"
    np.savez(rows, features=np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32))
    modelmill.import_model(saved(scores()), "one")
    modelmill.import_model(saved(scores(weights=np.arange(12, dtype=np.float32).reshape(4, 3) * 1.1)), "one")
    assert run(["evaluate", "one", "--data", str(rows), "--json"]) == 1
    assert "--against" in capsys.readouterr().err
    assert run(["evaluate", "one@2", "--data", str(rows), "--against", "one@1", "--json"]) == 0
    scored = json.loads(capsys.readouterr().out)
    assert scored["metrics"]["agreement"]["value"] == pytest.approx(0.9, abs=0.02)
    assert scored["costs"]["latency_ms"] > 0


def test_a_recurrent_model_is_fed_its_own_state_and_answers_a_file_of_rows(home, saved, tmp_path, capsys):
    modelmill.import_model(saved(recurrent()), "speech")
    speech = modelmill.load("speech")
    frame = {"input": np.ones((1, 9), np.float32), "sr": np.array(10)}
    first = speech.predict({**frame, "state": np.zeros((2, 1, 3), np.float32)})
    second = speech.predict({**frame, "state": first["stateN"]})
    assert first["output"].item() == pytest.approx(10 * np.tanh(1))
    assert second["output"].item() == pytest.approx(10 * np.tanh(1 + np.tanh(1)))
    rows = speech.predict([{"input": [1] * 9, "state": [[0] * 3] * 2, "sr": 10}] * 4)
    assert rows["stateN"].shape == (4, 2, 3)
    path = tmp_path / "rows.npz"
    np.savez(path, input=np.ones((4, 9), np.float32), state=np.zeros((4, 2, 3), np.float32), sr=np.array(10))
    assert run(["predict", "speech", "--input", str(path), "--output", str(tmp_path / "out.csv")]) == 0
    line = (tmp_path / "out.csv").read_text().splitlines()[1]
    output, _, state = line.partition(",")
    assert float(output) == pytest.approx(10 * np.tanh(1))
    assert state.startswith('"[[')
    capsys.readouterr()
    with pytest.raises(RequestError, match="expected \\[2, -1, 3\\]"):
        speech.predict({**frame, "state": np.zeros((1, 2, 3), np.float32)})


def test_it_is_served_with_tensors_as_the_file_shapes_them(home, saved):
    modelmill.import_model(saved(recurrent()), "speech")
    version = registry().find("speech")
    ran = []
    endpoint = load(version, registry().file(version, "model.onnx"), lambda *told: ran.append(told))
    assert not endpoint.lane.batches
    assert endpoint.lane.pace.start_ms > 0


def test_a_row_too_large_for_an_example_is_served_all_the_same(home, saved):
    proto = model(
        [helper.make_node("Reshape", ["image", "flat"], ["pixels"]), helper.make_node("ReduceMax", ["pixels"], ["y"])],
        [value("image", ["n", 3, "height", "width"])],
        [value("y", [None, 1])],
        {"flat": np.array([-1, 3 * 224 * 224])},
    )
    proto.graph.node[1].input.append("last")
    proto.graph.initializer.append(helper.make_tensor("last", INT64, [1], [1]))
    modelmill.import_model(saved(proto), "large")
    version = registry().find("large")
    assert version.signature.example == ()
    endpoint = load(version, registry().file(version, "model.onnx"), lambda *told: None)
    assert endpoint.lane.pace.of(1) > 1e9


def test_settings_that_are_wrong_are_refused_before_the_file_is_read(home, tmp_path):
    for settings, words in (
        ({"task": "clasify"}, "classify"),
        ({"clases": ["a"]}, "classes"),
        ({"seconds": -1}, "above 0"),
    ):
        with pytest.raises(UsageError, match=words):
            modelmill.import_model(tmp_path / "none.onnx", settings=settings)
    with pytest.raises(UsageError, match="a name has"):
        modelmill.import_model(tmp_path / "none.onnx", "../up")
    assert registry(home_of().path).names() == []


def test_texts_may_be_empty_and_numbers_may_be_missing_where_it_is_said(home, saved, capsys):
    text = TensorProto.STRING
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name in ("words", "a", "b", "n")]
    kinds = {"words": text, "a": 1, "b": 1, "n": INT64}
    given = [value(name, ["rows"], kind) for name, kind in kinds.items()]
    path = saved(model(nodes, given, [value(f"{name}_out", ["rows"], kind) for name, kind in kinds.items()]))
    assert run(["import", str(path), "--name", "loose", "--nullable", "a", "--quiet"]) == 0
    found = {field.name: field.nullable for field in registry().find("loose").signature.inputs}
    assert found == {"words": True, "a": True, "b": False, "n": False}
    row = {"words": "", "a": None, "b": 1.0, "n": 2}
    assert modelmill.load("loose").predict([row])["words_out"].tolist() == [""]
    with pytest.raises(RequestError, match="takes no missing values"):
        modelmill.load("loose").predict([{**row, "b": None}])
    for wrong, words in (("c", "no input named 'c'"), ("n", "n cannot miss values")):
        assert run(["import", str(path), "--name", "loose", "--nullable", wrong]) == 2
        assert words in capsys.readouterr().err
