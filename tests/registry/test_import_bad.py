"""Files from outside that are damaged, made to harm, or of another format: refused in words, and nothing dies."""

import json
import os
import pickle
import subprocess
import sys
import zipfile

import msgspec
import numpy as np
import onnx
import pytest
from foreign_files import model, scores, value
from onnx import TensorProto, external_data_helper, helper, numpy_helper

from modelmill.cli import run
from modelmill.errors import ModelError
from modelmill.registry.examine import Request, examine
from modelmill.registry.formats import format_of, refuse_others
from modelmill.registry.quarantine import EXAMINE, Limits, ask, examined


@pytest.fixture
def refused(tmp_path):
    """Examines a file in this process, and gives the words of the refusal."""

    def refuse(proto, name="model.onnx"):
        path = tmp_path / name
        path.write_bytes(proto if isinstance(proto, bytes) else proto.SerializeToString())
        with pytest.raises(ModelError) as caught:
            examine(Request(str(path), str(tmp_path / "made.onnx")))
        error = caught.value
        assert error.where
        assert error.message
        assert error.hint
        return str(error)

    return refuse


def single(op, inputs=("features",), domain="", **attributes):
    """A model of one operator."""
    node = helper.make_node(op, list(inputs), ["y"], domain=domain, **attributes)
    return model([node], [value("features", ["n", 4])], [value("y", None)])


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_no_model(refused, share):
    whole = scores(width=64, classes=64).SerializeToString()
    words = refused(whole[: int(len(whole) * share)])
    assert "truncated" in words or "holds" in words


@pytest.mark.parametrize("content", [b"\0" * 64, b"hello, I am no model", bytes(range(256)) * 9, b"{}"])
def test_bytes_that_are_no_model_are_told(refused, content):
    assert "no ONNX file" in refused(content) or "without operations" in refused(content)


def test_a_future_opset_and_a_future_format_are_named(refused):
    assert "opset 99" in refused(_opset(99))
    assert "format 77" in refused(_format(77))


def _opset(version):
    proto = scores()
    proto.opset_import[0].version = version
    return proto


def _format(version):
    proto = scores()
    proto.ir_version = version
    return proto


def test_a_future_opset_of_another_domain_is_named_too(refused):
    for domain, version in (("ai.onnx.ml", 77), ("com.microsoft", 9)):
        proto = scores()
        proto.opset_import.append(helper.make_opsetid(domain, version))
        words = refused(proto)
        assert f"opset {version} of {domain}" in words
        assert "or older" in words


def test_a_file_that_does_not_say_its_opset_is_told(refused):
    proto = scores()
    del proto.opset_import[:]
    assert "does not say in which version (opset)" in refused(proto)
    proto.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    assert "does not say in which version (opset)" in refused(proto)


def test_functions_that_call_themselves_are_named(refused):
    proto = single("Ping", domain="mine")
    proto.opset_import.append(helper.make_opsetid("mine", 1))
    for name, other in (("Ping", "Pong"), ("Pong", "Ping")):
        body = [helper.make_node(other, ["a"], ["b"], domain="mine")]
        proto.functions.append(helper.make_function("mine", name, ["a"], ["b"], body, [helper.make_opsetid("mine", 1)]))
    words = refused(proto)
    assert "its functions call themselves: " in words
    assert "Ping -> Pong" in words


@pytest.mark.parametrize("missing", ["input", "weight", "output", "value", "within"])
def test_what_is_read_and_made_by_nothing_is_named(refused, missing):
    proto = scores()
    if missing == "input":
        del proto.graph.input[:]
    elif missing == "weight":
        del proto.graph.initializer[:]
    elif missing == "output":
        proto.graph.output[0].name = "elsewhere"
    elif missing == "value":
        proto.graph.node[0].input[0] = "nowhere"
    else:
        branch = helper.make_graph([helper.make_node("Neg", ["nowhere"], ["c"])], "b", [], [value("c", None)])
        proto.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
        proto.graph.node.append(helper.make_node("If", ["yes"], ["y"], then_branch=branch, else_branch=branch))
    words = refused(proto)
    named = {"input": "reads 'features'", "weight": "reads 'w'", "output": "'elsewhere' is made by nothing"}
    assert named.get(missing, "reads 'nowhere', which nothing makes") in words
    assert "operators of ONNX's own" not in words


def test_two_things_of_one_name_are_told(refused):
    proto = scores()
    proto.graph.initializer.append(proto.graph.initializer[0])
    assert "2 tensors are named 'w'" in refused(proto)
    proto = scores()
    proto.graph.input.append(proto.graph.input[0])
    assert "2 inputs are named 'features'" in refused(proto)


@pytest.mark.parametrize("text", [b"features", b"scores", b"MatMul"])
def test_a_name_that_is_no_text_is_told(refused, text):
    broken = scores().SerializeToString().replace(text, b"\xe2" + text[1:])
    assert "is no text (UTF-8)" in refused(broken)


def test_a_text_that_is_none_and_that_nobody_looked_at_is_refused_all_the_same(refused, monkeypatch):
    from modelmill.graph import vet

    monkeypatch.setattr(vet, "check_names", lambda model, where: None)
    broken = scores().SerializeToString().replace(b"\x01w", b"\x01\xe2")
    assert "UTF-8" in refused(broken)


def test_an_operator_of_another_domain_is_named(refused):
    words = refused(single("Explode", domain="com.example.secret"))
    assert "'Explode'" in words
    assert "'com.example.secret'" in words


def test_an_operator_that_nobody_knows_is_named(refused):
    assert "Explode" in refused(single("Explode"))


def test_a_function_of_the_model_itself_may_have_a_domain_of_its_own(tmp_path):
    proto = single("Twice", domain="mine")
    proto.opset_import.append(helper.make_opsetid("mine", 1))
    body = [helper.make_node("Add", ["a", "a"], ["b"])]
    proto.functions.append(helper.make_function("mine", "Twice", ["a"], ["b"], body, [helper.make_opsetid("", 20)]))
    (tmp_path / "f.onnx").write_bytes(proto.SerializeToString())
    answer = examine(Request(str(tmp_path / "f.onnx"), str(tmp_path / "made.onnx")))
    assert answer.inputs[0].shape == (-1, 4)


def test_a_circle_is_named_and_another_order_is_put_right(refused, tmp_path):
    nodes = [helper.make_node("Add", ["features", "b"], ["a"]), helper.make_node("Relu", ["a"], ["b"])]
    circle = model(nodes, [value("features", ["n", 4])], [value("b", ["n", 4])])
    assert "in a circle: " in refused(circle)
    backwards = model(
        [helper.make_node("Relu", ["a"], ["b"]), helper.make_node("Neg", ["features"], ["a"])],
        [value("features", ["n", 4])],
        [value("b", ["n", 4])],
    )
    (tmp_path / "b.onnx").write_bytes(backwards.SerializeToString())
    examine(Request(str(tmp_path / "b.onnx"), str(tmp_path / "made.onnx")))
    assert [node.op_type for node in onnx.load(tmp_path / "made.onnx").graph.node] == ["Neg", "Relu"]


def test_a_value_that_two_nodes_make_is_named(refused):
    nodes = [helper.make_node("Relu", ["features"], ["y"]), helper.make_node("Neg", ["features"], ["y"])]
    assert "'y' is made by two nodes" in refused(model(nodes, [value("features", ["n", 4])], [value("y", ["n", 4])]))


@pytest.mark.parametrize("dims", [[250_000, 1_000_000], [2**40], [2**62, 2**62], [-1, 4]])
def test_a_tensor_that_declares_more_than_it_holds_is_named(refused, dims):
    proto = scores()
    proto.graph.initializer[0].dims[:] = dims
    words = refused(proto)
    assert "tensor 'w'" in words
    assert "declares" in words or "shape" in words


@pytest.mark.parametrize(
    ("places", "dims", "words"),
    [
        ([0, 12], [4, 3], "do not lie in the shape [4, 3]"),
        ([0, -1], [4, 3], "do not lie in the shape [4, 3]"),
        ([[0, 0], [1, 3]], [4, 3], "do not lie in the shape [4, 3]"),
        ([[0, 0, 0], [1, 1, 1]], [4, 3], "do not lie in the shape [4, 3]"),
        ([0.0, 1.0], [4, 3], "do not lie in the shape [4, 3]"),
        ([[], []], [], "do not lie in the shape []"),
        ([0], [4, 3], "not as many as its 2 numbers"),
        ([0, 1], [4, 10**9], "16,000,000,000 bytes when written out"),
        ([0, 1], [-4, -3], "has the shape [-4, -3]"),
    ],
)
@pytest.mark.parametrize("constant", [True, False])
def test_a_sparse_tensor_that_is_none_or_too_large_is_named(refused, constant, places, dims, words):
    proto = scores()
    del proto.graph.initializer[:]
    values = numpy_helper.from_array(np.ones(2, np.float32), "w")
    tensor = onnx.SparseTensorProto(values=values, indices=numpy_helper.from_array(np.array(places), "i"), dims=dims)
    if constant:
        proto.graph.node.insert(0, helper.make_node("Constant", [], ["w"], sparse_value=tensor))
    else:
        proto.graph.sparse_initializer.append(tensor)
    said = refused(proto)
    assert "sparse tensor 'w'" in said
    assert words in said


def test_a_constant_of_half_a_gigabyte_of_text_for_a_few_bytes_is_named(refused):
    proto = scores()
    proto.graph.initializer.append(TensorProto(name="t", data_type=TensorProto.STRING, dims=[10**9]))
    assert "tensor 't'" in refused(proto)
    unknown = scores()
    unknown.graph.initializer[0].data_type = 99
    assert "of the type 99" in refused(unknown)


@pytest.mark.parametrize(("bad", "words"), [(np.nan, "NaN"), (np.inf, "infinite"), (-np.inf, "infinite")])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_weights_that_are_no_numbers_are_named(refused, bad, words, dtype):
    weights = np.ones((4, 3), dtype) * 0.5
    weights[2, 1] = bad
    proto = scores()
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights, "w"))
    said = refused(proto)
    assert words in said
    assert "tensor 'w'" in said


def test_weights_within_a_branch_and_of_the_older_form_are_looked_at_too(refused):
    proto = scores()
    del proto.graph.initializer[0]
    proto.graph.initializer.append(helper.make_tensor("w", TensorProto.FLOAT, [4, 3], [0.5] * 11 + [float("nan")]))
    assert not proto.graph.initializer[0].raw_data
    assert "NaN" in refused(proto)
    branch = helper.make_graph(
        [helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.array([np.nan, 1.0], np.float32)))],
        "branch",
        [],
        [value("c", [2])],
    )
    nodes = [helper.make_node("If", ["yes"], ["y"], then_branch=branch, else_branch=branch)]
    forks = model(nodes, [value("features", ["n", 4])], [value("y", [2])], {"yes": np.array(True)})
    assert "NaN" in refused(forks)


def test_a_mask_of_infinities_is_no_broken_weight(tmp_path):
    proto = scores(weights=np.ones((4, 3), np.float32))
    mask = np.triu(np.full((4, 3), -np.inf, np.float32), 1)
    proto.graph.initializer.append(numpy_helper.from_array(mask, "mask"))
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    assert examine(Request(str(tmp_path / "m.onnx"), str(tmp_path / "made.onnx"))).inputs


@pytest.mark.parametrize("kind", ["BFLOAT16", "FLOAT8E4M3FN", "FLOAT8E5M2"])
@pytest.mark.parametrize("raw", [True, False])
def test_nan_in_the_short_types_is_named_too(refused, kind, raw):
    proto = scores()
    number = TensorProto.DataType.Value(kind)
    array = np.full(12, 0.5, helper.tensor_dtype_to_np_dtype(number))
    array[7] = np.nan
    if raw:
        tensor = helper.make_tensor("short", number, [4, 3], array.tobytes(), raw=True)
    else:
        codes = array.view(f"u{array.dtype.itemsize}").tolist()
        tensor = TensorProto(name="short", data_type=number, dims=[4, 3], int32_data=codes)
    proto.graph.initializer.append(tensor)
    assert "tensor 'short': it holds NaN" in refused(proto)


def test_a_matrix_of_nothing_but_infinities_is_named(refused):
    assert "tensor 'w': it holds infinite weights" in refused(scores(weights=np.full((4, 3), np.inf, np.float32)))


def test_nan_among_the_attributes_of_a_node_is_named(refused):
    proto = scores()
    del proto.graph.initializer[0]
    flat = helper.make_node("Constant", [], ["flat"], value_floats=[float("nan")] * 12)
    proto.graph.node.insert(0, helper.make_node("Reshape", ["flat", "to"], ["w"]))
    proto.graph.node.insert(0, flat)
    proto.graph.initializer.append(helper.make_tensor("to", TensorProto.INT64, [2], [4, 3]))
    assert "'value_floats' of the Constant that gives 'flat': it holds NaN" in refused(proto)
    settings = {"coefficients": [1.0, float("nan"), 1.0, 1.0], "intercepts": [0.5]}
    linear = single("LinearRegressor", domain="ai.onnx.ml", **settings)
    linear.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    assert "'coefficients' of the LinearRegressor that gives 'y': it holds NaN" in refused(linear)


def test_nan_that_stands_for_a_missing_value_is_no_broken_weight(tmp_path):
    settings = {"keys_floats": [1.0, float("nan")], "values_floats": [0.0, 2.0], "default_float": 9.0}
    proto = single("LabelEncoder", domain="ai.onnx.ml", **settings)
    proto.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    assert examine(Request(str(tmp_path / "m.onnx"), str(tmp_path / "made.onnx"))).inputs


def test_a_model_that_can_answer_nothing_but_nan_is_refused(refused, tmp_path):
    proto = scores(classes=1)
    proto.graph.node.append(helper.make_node("Add", ["scores", "bias"], ["y"]))
    proto.graph.initializer.append(numpy_helper.from_array(np.array([np.nan], np.float32), "bias"))
    proto.graph.output[0].CopyFrom(value("y", ["batch_size", 1]))
    words = refused(proto)
    assert "the output 'y' is NaN for the made-up row and in 48 calls with random ones" in words
    assert "Training went astray" in words
    shares = scores()
    shares.graph.node.append(helper.make_node("Div", ["scores", "scores"], ["y"]))
    shares.graph.output[0].CopyFrom(value("y", ["batch_size", 3]))
    (tmp_path / "zero.onnx").write_bytes(shares.SerializeToString())
    assert examine(Request(str(tmp_path / "zero.onnx"), str(tmp_path / "made.onnx"))).inputs, "NaN for zeros alone"


def apart(folder, location, **places):
    """A model whose weights lie in a file of their own."""
    proto = scores(width=4, classes=3)
    tensor = proto.graph.initializer[0]
    data = tensor.raw_data
    external_data_helper.set_external_data(tensor, location, **places)
    tensor.ClearField("raw_data")
    return proto, data


def test_data_inside_the_folder_are_taken_into_the_one_file(tmp_path):
    (tmp_path / "weights").mkdir()
    proto, data = apart(tmp_path, "weights/w.bin", offset=5, length=48)
    (tmp_path / "weights" / "w.bin").write_bytes(b"     " + data)
    (tmp_path / "model.onnx").write_bytes(proto.SerializeToString())
    examine(Request(str(tmp_path / "model.onnx"), str(tmp_path / "made.onnx")))
    found = onnx.load(tmp_path / "made.onnx", load_external_data=False)
    assert np.array_equal(numpy_helper.to_array(found.graph.initializer[0]).ravel(), np.arange(12))


@pytest.mark.parametrize(
    "location", ["../secret", "a/../../secret", "/etc/passwd", "..\\secret", "C:\\secret", "", "weights/../../secret"]
)
def test_data_outside_of_the_folder_are_not_read(refused, tmp_path, location):
    (tmp_path / "weights").mkdir()
    (tmp_path.parent / "secret").write_bytes(b"\0" * 48)
    proto, _ = apart(tmp_path, location)
    assert "not inside of the model's folder" in refused(proto)


@pytest.mark.parametrize("kind", ["file", "folder", "hard", "pipe"])
def test_data_behind_links_and_pipes_are_not_read(refused, tmp_path, kind):
    secret = tmp_path / "elsewhere"
    secret.mkdir()
    (secret / "w.bin").write_bytes(b"\0" * 48)
    location = "linked/w.bin" if kind == "folder" else "w.bin"
    if kind == "folder":
        (tmp_path / "linked").symlink_to(secret)
    elif kind == "file":
        (tmp_path / "w.bin").symlink_to(secret / "w.bin")
    elif kind == "hard":
        os.link(secret / "w.bin", tmp_path / "w.bin")
    else:
        os.mkfifo(tmp_path / "w.bin")
    proto, _ = apart(tmp_path, location)
    words = refused(proto)
    assert "link" in words or "no plain file" in words


@pytest.mark.parametrize(
    ("places", "words"),
    [
        ({"offset": 8}, "wanted are 8 to 56"),
        ({"length": 400}, "lies in 400 bytes, and its shape wants 48"),
        ({"offset": -4}, "expected a number of bytes"),
        ({"offset": 10**17}, "wanted are"),
        ({"length": 2**42, "dims": (2**20, 2**20)}, "has 48 bytes, wanted are 0 to 4398046511104"),
    ],
)
def test_places_past_the_end_of_the_file_are_told(refused, tmp_path, places, words):
    dims = places.get("dims", (4, 3))
    proto, data = apart(tmp_path, "w.bin", **{name: place for name, place in places.items() if name != "dims"})
    proto.graph.initializer[0].dims[:] = dims
    (tmp_path / "w.bin").write_bytes(data)
    assert words in refused(proto)


def test_more_than_two_gigabytes_in_other_files_are_refused_unread(refused, tmp_path):
    proto, _ = apart(tmp_path, "w.bin")
    proto.graph.initializer[0].dims[:] = [2**15, 2**15]
    with (tmp_path / "w.bin").open("wb") as file:
        file.truncate(2**32)
    assert "are over 2 GB" in refused(proto)


def test_a_link_that_is_named_is_followed_to_the_model(tmp_path):
    (tmp_path / "there").mkdir()
    proto, data = apart(tmp_path, "w.bin")
    (tmp_path / "there" / "model.onnx").write_bytes(proto.SerializeToString())
    (tmp_path / "there" / "w.bin").write_bytes(data)
    (tmp_path / "link.onnx").symlink_to(tmp_path / "there" / "model.onnx")
    assert examine(Request(str(tmp_path / "link.onnx"), str(tmp_path / "made.onnx"))).inputs


def test_a_model_that_takes_nothing_is_refused(refused):
    nodes = [helper.make_node("Identity", ["w"], ["y"])]
    assert "it takes nothing" in refused(model(nodes, [], [value("y", [3])], {"w": np.zeros(3, np.float32)}))


def test_a_file_of_data_that_is_missing_is_named(refused, tmp_path):
    proto, _ = apart(tmp_path, "missing.bin")
    assert "'missing.bin' cannot be read" in refused(proto)


def test_a_terabyte_that_is_made_only_when_it_runs_ends_the_child_alone(tmp_path):
    nodes = [
        helper.make_node("ConstantOfShape", ["huge"], ["room"]),
        helper.make_node("ReduceSum", ["room"], ["sum"]),
        helper.make_node("Add", ["features", "sum"], ["y"]),
    ]
    proto = model(nodes, [value("features", ["n", 4])], [value("y", ["n", 4])], {"huge": np.array([10**6, 250_000])})
    (tmp_path / "bomb.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError, match=r"bomb.onnx|the model|alloc") as caught:
        examined(tmp_path / "bomb.onnx", {}, Limits(seconds=60))
    assert any(word in str(caught.value) for word in ("alloc", "memory", "MB"))


def test_a_loop_without_end_is_ended(tmp_path):
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["still"]), helper.make_node("Neg", ["x"], ["minus"])],
        "body",
        [value("i", [], TensorProto.INT64), value("go", [], TensorProto.BOOL), value("x", ["n", 4])],
        [value("still", [], TensorProto.BOOL), value("minus", ["n", 4])],
    )
    loop = helper.make_node("Loop", ["count", "yes", "features"], ["y"], body=body)
    weights = {"count": np.array(2**62), "yes": np.array(True)}
    proto = model([loop], [value("features", ["n", 4])], [value("y", ["n", 4])], weights)
    (tmp_path / "loop.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError, match=r"loop.onnx: .*(longer than 4 s|out of time)"):
        examined(tmp_path / "loop.onnx", {}, Limits(seconds=4))


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "killed by SIGKILL (out of memory?)"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "killed by SIGSEGV"),
        ("import os; os.abort()", "killed by SIGABRT"),
        ("raise SystemExit(7)", "ended with code 7: it said nothing"),
        ("import time; time.sleep(60)", "took longer than 0.5 s"),
    ],
)
def test_how_a_child_died_is_told(code, words):
    with pytest.raises(ModelError) as caught:
        ask([sys.executable, "-c", code], b"", "model.onnx", 0.5 if "sleep" in code else 30)
    assert words in str(caught.value)
    assert caught.value.where == "model.onnx"


def test_a_child_that_babbles_is_no_answer(tmp_path, monkeypatch):
    from modelmill.registry import quarantine

    (tmp_path / "model.onnx").write_bytes(b"x")
    monkeypatch.setattr(quarantine, "EXAMINE", (sys.executable, "-c", "print('hello')"))
    with pytest.raises(ModelError, match="gave no answer"):
        examined(tmp_path / "model.onnx", {}, Limits())


@pytest.mark.parametrize(
    ("content", "words"), [(b"", "is empty"), (None, "cannot be read"), (b"no model at all", "no ONNX file")]
)
def test_the_command_line_says_what_is_wrong_and_publishes_nothing(tmp_path, monkeypatch, capsys, content, words):
    monkeypatch.setenv("MODELMILL_HOME", str(tmp_path / "home"))
    path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(content)
    assert run(["import", str(path), "--json"]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert words in error["message"]
    assert error["try"]
    assert run(["models", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def zipped(path, *names):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("net.pt", ("net/data.pkl", "net/version"), "torch.onnx.export"),
        ("net.onnx", ("net/data.pkl",), "PyTorch"),
        ("drf.zip", ("model.ini", "domains/d.txt"), "MOJO"),
        ("net.keras", ("config.json", "metadata.json", "model.weights.h5"), "model.export"),
        ("stuff.zip", ("readme.txt",), "zip archive"),
        ("forest.joblib", pickle.dumps({"trees": 3}), "skl2onnx"),
        ("forest.onnx", pickle.dumps({"trees": 3}), "pickle"),
        ("net.h5", b"\x89HDF\r\n\x1a\n", "Keras"),
        ("net.safetensors", (20).to_bytes(8, "little") + b'{"w":{}}', "safetensors"),
        ("tree.pmml", b'<?xml version="1.0"?><PMML/>', "PMML"),
        ("trees.txt", b"tree\nversion=v4\n", "onnxmltools"),
        ("net.tflite", b"\x1c\0\0\0TFL3", "tf2onnx"),
        ("net.gguf", b"GGUF\3\0\0\0", "GGUF"),
        ("saved.pb", b"\x08\x01", "tf2onnx"),
    ],
)
def test_another_format_is_named_with_the_way_in(tmp_path, name, content, words):
    path = tmp_path / name
    if isinstance(content, tuple):
        zipped(path, *content)
    else:
        path.write_bytes(content)
    with pytest.raises(ModelError, match="models come in as ONNX files") as caught:
        refuse_others(path)
    assert words in str(caught.value)


def test_folders_are_told_apart_and_onnx_passes(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"")
    assert "SavedModel" in format_of(tmp_path).name
    (tmp_path / "model.onnx").write_bytes(scores().SerializeToString())
    assert format_of(tmp_path / "model.onnx") is None
    (tmp_path / "model").write_bytes(scores().SerializeToString())
    assert format_of(tmp_path / "model") is None


def peak_bytes(path, tmp_path):
    """What the child that examines a file takes at most."""
    request = msgspec.json.encode(Request(str(path), str(tmp_path / "made.onnx")))
    child = subprocess.Popen(EXAMINE, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    child.stdin.write(request)
    child.stdin.close()
    said = child.stdout.read()
    child.stdout.close()
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert b'"error":null' in said
    return used.ru_maxrss * 1024


def test_examining_takes_no_more_than_four_times_the_file(tmp_path):
    small, large = tmp_path / "small.onnx", tmp_path / "large.onnx"
    small.write_bytes(scores().SerializeToString())
    weights = np.random.default_rng(0).normal(size=(2500, 4000)).astype(np.float32)
    large.write_bytes(scores(width=2500, classes=4000, weights=weights).SerializeToString())
    assert peak_bytes(large, tmp_path) - peak_bytes(small, tmp_path) < 4 * 40e6


def test_a_child_whose_parent_is_gone_answers_nobody(tmp_path):
    (tmp_path / "model.onnx").write_bytes(scores().SerializeToString())
    request = Request(str(tmp_path / "model.onnx"), str(tmp_path / "made.onnx"), parent=2**22)
    done = subprocess.run(EXAMINE, input=msgspec.json.encode(request), capture_output=True)
    assert (done.returncode, done.stdout) == (1, b"")
    assert not (tmp_path / "made.onnx").exists()
