"""The protocol's bytes: what is taken, what is refused, and with which words."""

from __future__ import annotations

import json
import struct

import numpy as np
import orjson
import pytest

from modelmill.errors import RequestError
from modelmill.serve import request as requests
from modelmill.serve.request import Expected
from modelmill.serve.web import lists, wire
from modelmill.signature import NO_DATE, Field, Signature

OUTPUTS = (Field("label", "BYTES"), Field("score", "FP32", (-1, 2)))
ONE = Signature("t", (Field("x", "FP32", (-1, 3)),), OUTPUTS)
MISSING = Signature(
    "t",
    (Field("n", "FP32", nullable=True), Field("s", "BYTES", nullable=True), Field("d", "INT64", (-1,), "date", True)),
    OUTPUTS,
)


def tensor(name="x", datatype="FP32", shape=(2, 3), **rest):
    return {"name": name, "datatype": datatype, "shape": list(shape), **rest}


def read(*tensors, signature=ONE, tail=b"", **rest):
    head = orjson.dumps({"inputs": list(tensors), **rest})
    return wire.read(head + tail, str(len(head)) if tail else None, Expected(signature))


def refused(*tensors, **rest):
    with pytest.raises(RequestError) as error:
        read(*tensors, **rest)
    return str(error.value)


SIX = [1, 2, 3, 4, 5, 6.5]


def test_flat_and_nested_data_are_the_same_tensor():
    flat = read(tensor(data=SIX)).columns["x"]
    nested = read(tensor(data=[[1, 2, 3], [4, 5, 6.5]])).columns["x"]
    assert flat.tolist() == nested.tolist() == [[1, 2, 3], [4, 5, 6.5]]
    assert flat.dtype == np.float32


def test_a_column_of_a_table_may_come_with_an_axis_of_one():
    """MLServer's clients send a table so."""
    numbers = struct.pack("<2f", 1.5, 2.5)
    for data in ([1.5, 2.5], [[1.5], [2.5]]):
        given = tensor("n", shape=(2, 1), data=data), tensor("s", "BYTES", (2, 1), data=["a", "b"])
        columns = read(*given, tensor("d", "INT64", (2,), data=[1, 2]), signature=MISSING).columns
        assert (columns["n"].tolist(), columns["s"].tolist()) == ([1.5, 2.5], ["a", "b"])
    binary = tensor("x", shape=(2, 1), parameters={"binary_data_size": 8})
    alone = Signature("t", (Field("x", "FP32"),), OUTPUTS)
    assert read(binary, signature=alone, tail=numbers).columns["x"].tolist() == [1.5, 2.5]
    assert "came [1, 2]" in refused(tensor(shape=(1, 2), data=[1, 2]), signature=alone)
    assert "came a list" in refused(tensor(shape=(2, 1), data=[[[1]], [[2]]]), signature=alone)


def test_binary_numbers_are_views_of_the_body():
    signature = Signature("t", (Field("b", "UINT8", (-1, 3)),), OUTPUTS)
    data = bytes(range(6))
    given = tensor("b", "UINT8", parameters={"binary_data_size": 6})
    column = read(given, signature=signature, tail=data).columns["b"]
    assert column.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert not column.flags.owndata


def test_a_body_mixes_json_and_binary_tensors():
    signature = Signature("t", (Field("a", "INT64"), Field("b", "FP32"), Field("c", "BYTES")), OUTPUTS)
    tail = struct.pack("<2f", 0.5, 1.5) + requests.encode(np.array(["ü", ""], object))
    request = read(
        tensor("a", "INT64", (2,), data=[1, 2]),
        tensor("b", "FP32", (2,), parameters={"binary_data_size": 8}),
        tensor("c", "BYTES", (2,), parameters={"binary_data_size": len(tail) - 8}),
        signature=Signature("t", (*signature.inputs[:2], Field("c", "BYTES", nullable=True)), OUTPUTS),
        tail=tail,
    )
    assert request.columns["a"].tolist() == [1, 2]
    assert request.columns["b"].tolist() == [0.5, 1.5]
    assert request.columns["c"].tolist() == ["ü", ""]
    assert request.rows == 2


def mixed(strings, numbers, **rest):
    """A request of two tensors that are both bytes: its body, and the length of its JSON."""
    parts = (requests.encode(np.array(strings, object)), np.array(numbers, "<f4").tobytes())
    said = (("s", "BYTES", len(strings), parts[0]), ("f", "FP32", len(numbers), parts[1]))
    inputs = [tensor(name, kind, (n,), parameters={"binary_data_size": len(part)}) for name, kind, n, part in said]
    head = orjson.dumps({"inputs": inputs, **rest})
    return head + b"".join(parts), len(head)


def test_a_head_that_was_met_is_read_as_the_first_time():
    expected = Expected(Signature("t", (Field("f", "FP32"), Field("s", "BYTES")), OUTPUTS))
    for strings, numbers in ((["a", "b"], [1, 2]), (["x", "yz"], [3, 4]), (["x", "\u00fc"], [5, 6])):
        body, length = mixed(strings, numbers, id="7", parameters={"binary_data_output": True, "timeout": 5})
        request = wire.read(body, str(length), expected)
        assert request.columns["s"].tolist() == strings
        assert request.columns["f"].tolist() == numbers
        assert (request.id, request.rows, request.wishes.timeout_s) == ("7", 2, 5e-6)
        assert request.outputs == expected.binary
    assert len(expected.heads) == 2


def test_what_is_wrong_after_a_head_that_was_met_is_said_as_the_first_time():
    signature = Signature("t", (Field("f", "FP32"), Field("s", "BYTES")), OUTPUTS)

    def said(body, length, expected):
        with pytest.raises(RequestError) as error:
            wire.read(body, str(length), expected)
        return str(error.value)

    body, length = mixed(["a", "b"], [1, 2])
    known = Expected(signature)
    wire.read(body, str(length), known)
    broken = bytearray(body)
    broken[length] = 9
    bad = (bytes(broken), body[:-1], body + b"1", body[:-4] + np.array([np.nan], "<f4").tobytes(), body[:length])
    told = [said(each, length, known) for each in bad]
    assert told == [said(each, length, Expected(signature)) for each in bad]
    assert len(set(told)) == len(bad)
    assert len(known.heads) == 1


@pytest.mark.parametrize("count", [wire.PIECE - 1, wire.PIECE, wire.PIECE + 1, 3 * wire.PIECE + 7])
def test_many_numbers_are_written_in_pieces_to_the_same_json(count):
    numbers = np.random.default_rng(0).normal(size=(count, 1)).astype(np.float32)
    expected = Expected(Signature("t", ONE.inputs, (Field("y", "FP32", (-1, 1)),)))
    request = wire.read(orjson.dumps({"inputs": [tensor(data=SIX)]}), None, expected)
    answer = orjson.loads(wire.write(request, {"y": numbers}, expected, "m", 1).body)
    assert answer["outputs"][0]["shape"] == [count, 1]
    assert np.array_equal(np.array(answer["outputs"][0]["data"], np.float32), numbers[:, 0])


def test_heads_are_remembered_within_bounds_and_no_data_of_requests_with_them():
    expected = Expected(ONE)
    for number in range(3 * wire.KEPT):
        head = orjson.dumps({"id": str(number), "inputs": [tensor(parameters={"binary_data_size": 24})]})
        wire.read(head + struct.pack("<6f", *SIX), str(len(head)), expected)
        head = orjson.dumps({"id": str(number), "inputs": [tensor(data=SIX)]})
        wire.read(head, str(len(head)), expected)
    assert 0 < len(expected.heads) <= wire.KEPT
    assert not any(head.plain.columns for head in expected.heads.values())
    long = orjson.dumps({"id": "y" * wire.KEPT_BYTES, "inputs": [tensor(parameters={"binary_data_size": 24})]})
    before = set(expected.heads)
    assert wire.read(long + struct.pack("<6f", *SIX), str(len(long)), expected).rows == 2
    assert set(expected.heads) == before


def test_header_zero_is_the_input_itself_and_the_answer_is_binary():
    request = wire.read(struct.pack("<6f", *SIX), "0", Expected(ONE))
    assert request.columns["x"].tolist() == [[1, 2, 3], [4, 5, 6.5]]
    assert all(asked.binary for asked in request.outputs)


def test_a_raw_request_leaves_one_size_open():
    signature = Signature("t", (Field("x", "UINT8", (-1, -1, 2)),), OUTPUTS)
    assert wire.read(b"abcdef", "0", Expected(signature)).columns["x"].shape == (1, 3, 2)


def test_a_raw_request_of_text_is_one_string():
    outputs = (Field("label", "BYTES"),)
    for shape in ((-1,), (-1, 1)):
        signature = Signature("t", (Field("s", "BYTES", shape),), outputs)
        column = wire.read("ü".encode(), "0", Expected(signature)).columns["s"]
        assert (column.shape, column.item()) == ((1,) * len(shape), "ü")
    with pytest.raises(RequestError, match="is one string"):
        wire.read(b"427", "0", Expected(Signature("t", (Field("s", "BYTES", (-1, -1)),), outputs)))


def test_classes_are_ranked_where_the_model_leaves_their_number_open():
    outputs = (Field("label", "BYTES"), Field("score", "FP32", (-1, -1)))
    signature = Signature("t", (Field("x", "FP32", (-1, 3)),), outputs)
    asked = {"outputs": [{"name": "score", "parameters": {"classification": 2}}]}
    request = read(tensor(data=SIX), signature=signature, **asked)
    answer = wire.write(request, {"score": np.array([[1, 3, 2], [9, 7, 8]], np.float32)}, Expected(signature), "m", 1)
    (output,) = json.loads(answer.body)["outputs"]
    assert (output["datatype"], output["shape"]) == ("BYTES", [2, 2])
    assert output["data"] == ["3.000000:1", "2.000000:2", "9.000000:0", "8.000000:2"]
    large = {"score": np.zeros((1, 1_000_001), np.float32)}
    with pytest.raises(RequestError, match="would rank 1,000,001 numbers"):
        wire.write(request, large, Expected(signature), "m", 1)


def test_missing_values_are_null_nan_or_empty_where_they_are_allowed():
    request = read(
        tensor("n", "FP32", (1,), data=[None]),
        tensor("s", "BYTES", (1,), data=[None]),
        tensor("d", "INT64", (1,), data=[None]),
        signature=MISSING,
    )
    assert np.isnan(request.columns["n"][0])
    assert request.columns["s"][0] == ""
    assert request.columns["d"][0] == NO_DATE


def test_the_id_comes_back_and_outputs_come_as_asked():
    asked = [{"name": "score", "parameters": {"binary_data": True}}, {"name": "label"}]
    request = read(tensor(data=SIX), id="42", outputs=asked)
    outputs = {"label": np.array(["a", "b"], object), "score": np.array([[1, 2], [3, 4]], np.float32)}
    answer = wire.write(request, outputs, Expected(ONE), "m", 7)
    document = json.loads(answer.body[: answer.json_bytes])
    assert (document["id"], document["model_name"], document["model_version"]) == ("42", "m", "7")
    assert [output["name"] for output in document["outputs"]] == ["score", "label"]
    assert document["outputs"][1]["data"] == ["a", "b"]
    assert np.frombuffer(answer.body[answer.json_bytes :], np.float32).tolist() == [1, 2, 3, 4]


def test_an_output_overrides_what_the_request_says_of_all():
    asked = [{"name": "score", "parameters": {"binary_data": False}}, {"name": "label"}]
    request = read(tensor(data=SIX), outputs=asked, parameters={"binary_data_output": True})
    assert [output.binary for output in request.outputs] == [False, True]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (tensor("y", data=SIX), "no input 'y'"),
        (tensor(datatype="FP64", data=SIX), "expected FP32, came 'FP64'"),
        (tensor(shape=(6,), data=SIX), "expected [-1, 3], came [6]"),
        (tensor(shape=(3, 2), data=SIX), "expected [-1, 3], came [3, 2]"),
        (tensor(shape=(0, 3), data=[]), "no rows"),
        (tensor(shape=(2**31, 2**31), data=SIX), "came [2147483648, 2147483648]"),
        (tensor(shape=(2**62, 3), data=SIX), "elements, came 6"),
        (tensor(shape=(-2, 3), data=SIX), "expected a list of sizes such as [1, 3], came the number -2 among them"),
        (tensor(shape=(True, 3), data=SIX), "came a boolean among them"),
        (tensor(shape=("2", 3), data=SIX), "came a string among them"),
        (tensor(shape=(2.0**70, 3), data=SIX), "came the number 1.18059162071741"),
        ({**tensor(data=SIX), "shape": "2,3"}, "expected a list of sizes such as [1, 3], came a string"),
        (tensor(data=SIX[:5]), "wants 6 elements, came 5"),
        (tensor(data=[[1, 2, 3], [4, 5]]), "shape says 3"),
        (tensor(data=[[1, 2, 3], 4]), "nested unevenly"),
        (tensor(data=[[[1, 2, 3]], [[4, 5, 6]]]), "shape says 3"),
        (tensor(data=["1", 2, 3, 4, 5, 6]), "came a string"),
        (tensor(data=[True, 2, 3, 4, 5, 6]), "came a boolean"),
        (tensor(data=[None, 2, 3, 4, 5, 6]), "null is not allowed"),
        (tensor(data=[1, 2, 3, -1e39, 5, 6]), "element 3, -1e+39, does not fit into FP32"),
        (tensor(data={}), "expected a list"),
        (tensor(), "neither data nor binary_data_size"),
        (tensor(data=SIX, parameters={"binary_data_size": 24}), "both data and binary_data_size"),
        (tensor(parameters={"binary_data_size": 24}), "24 bytes, 0 are left"),
        (tensor(parameters={"binary_data_size": -1}), "expected a number of bytes"),
        (tensor(data=SIX, parameters={"shared_memory_region": "r"}), "is not supported"),
        (tensor(data=SIX, parameters={"p": []}), "expected a string, number or boolean"),
        (tensor(data=SIX, parameters=[]), "expected an object"),
        ({"name": 3}, "expected a string"),
        ([], "expected an object"),
    ],
)
def test_a_wrong_tensor_is_refused_in_words(given, words):
    assert words in refused(given)


@pytest.mark.parametrize("text", [b"18446744073709551616", b"-9223372036854775809"])
def test_a_whole_number_beyond_64_bits_is_not_told_as_a_fraction(text):
    signature = Signature("t", (Field("n", "UINT64"),), OUTPUTS)
    body = b'{"inputs": [{"name": "n", "datatype": "UINT64", "shape": [1], "data": [%s]}]}' % text
    with pytest.raises(RequestError) as error:
        wire.read(body, None, Expected(signature))
    assert f"expected UINT64, came a number beyond 64 bits, about {float(text)}" in str(error.value)
    largest = body.replace(text, b"18446744073709551615")
    assert wire.read(largest, None, Expected(signature)).columns["n"].tolist() == [2**64 - 1]


def test_an_input_that_comes_twice_or_not_at_all_is_refused():
    assert "comes twice" in refused(tensor(data=SIX), tensor(data=SIX))
    assert "missing: x" in refused()


@pytest.mark.parametrize(
    ("rest", "words"),
    [
        ({"id": 3}, "id: expected a string"),
        ({"parameters": {"binary_data_output": 1}}, "expected true or false"),
        ({"parameters": {"sequence_id": 5}}, "is not supported"),
        ({"outputs": [{"name": "labels"}]}, "Did you mean label?"),
        ({"outputs": [{"name": "label"}, {"name": "label"}]}, "asked for twice"),
        ({"outputs": [{"name": "label", "parameters": {"classification": 3}}]}, "no scores of classes"),
        ({"outputs": [{"name": "score", "parameters": {"classification": True}}]}, "a number of classes"),
        ({"outputs": [{"name": "score", "parameters": {"classification": -1}}]}, "a number of classes"),
        ({"parameters": {"priority": "high"}}, "parameters.priority: expected a whole number"),
        ({"parameters": {"timeout": 1.5}}, "parameters.timeout: expected a whole number"),
        ({"parameters": {"timeout": True}}, "parameters.timeout: expected a whole number"),
        ({"outputs": {}}, "expected a list"),
    ],
)
def test_a_wrong_envelope_is_refused_in_words(rest, words):
    assert words in refused(tensor(data=SIX), **rest)


def test_binary_strings_that_lie_about_their_length_are_refused():
    signature = Signature("t", (Field("s", "BYTES"),), OUTPUTS)

    def words(data, count=1):
        return refused(
            tensor("s", "BYTES", (count,), parameters={"binary_data_size": len(data)}), signature=signature, tail=data
        )

    assert "says 4294967295 bytes" in words(b"\xff\xff\xff\xffab")
    assert "at most 1" in words(b"\x01\x00\x00\x00a", 2)
    assert "follow the last string" in words(b"\x01\x00\x00\x00ab")
    assert "not UTF-8" in words(b"\x01\x00\x00\x00\xff")


def test_missing_values_in_binary_are_refused_where_they_are_not_allowed():
    data = np.full(6, np.nan, np.float32).tobytes()
    assert "a value is missing" in refused(tensor(parameters={"binary_data_size": 24}), tail=data)


@pytest.mark.parametrize("header", ["-1", "x", "", "1e3", "99999", "²", "9" * 30])
def test_a_header_length_that_lies_is_refused(header):
    with pytest.raises(RequestError, match="Inference-Header-Content-Length"):
        wire.read(b'{"inputs": []}', header, Expected(ONE))


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b'{"inputs"', b"[" * 10_000, b'{"inputs": [NaN]}', b"\xff\xfe", b'"\\ud800"']
)
def test_a_body_that_is_no_request_is_refused(body):
    with pytest.raises(RequestError):
        wire.read(body, None, Expected(ONE))


def test_bytes_that_belong_to_no_tensor_are_refused():
    assert "belong to no input" in refused(tensor(data=SIX), tail=b"abc")


@pytest.mark.parametrize(
    "body",
    [
        b'{"inputs": [], "inputs": [%b]}',
        b'{"id": "a", "inputs": [%b], "id": "b"}',
        b'{"inputs": [{"name": "y", %b}]}',
        b'{"inputs": [%b], "parameters": {"priority": 1, "priority": 2}}',
        b'{"inputs": [%b], "outputs": [{"name": "label"}, {"name": "score", "name": "score"}]}',
    ],
)
def test_a_name_that_comes_twice_in_an_object_is_refused(body):
    """orjson would take the last one in silence."""
    whole = orjson.dumps(tensor(data=SIX))
    inner = whole[1:-1] if b"{%b" in body or b", %b" in body else whole
    with pytest.raises(RequestError, match="comes twice in one object"):
        wire.read(body % inner, None, Expected(ONE))


def test_colons_in_texts_are_no_names():
    assert read(tensor(data=SIX), id='a:b":"c').id == 'a:b":"c'
    texts = read(
        {"name": "n", "datatype": "FP32", "shape": [2], "data": [1, 2]},
        {"name": "s", "datatype": "BYTES", "shape": [2], "data": [":", "::"]},
        {"name": "d", "datatype": "INT64", "shape": [2], "data": [0, 1]},
        signature=MISSING,
    )
    assert texts.columns["s"].tolist() == [":", "::"]


def test_names_are_looked_for_without_end():
    deep = b'{"a": ' * 900 + b"1" + b"}" * 900
    assert wire.parse(deep) == orjson.loads(deep)
    with pytest.raises(RequestError, match="nested too deeply"):
        wire.parse(b"[" * 1000 + b'":"' + b"]" * 1000)
    with pytest.raises(RequestError, match="comes twice"):
        wire.parse(b'[1, {"a": 1, "a": 2}, 1e5, %b]' % (b"1" * 300))


@pytest.mark.parametrize("shape", [[2**40, 0], [2**62, 0], [70_000, 0]])
def test_a_tensor_without_elements_has_no_rows_without_end(shape):
    signature = Signature("t", (Field("x", "FP32", (-1, -1)),), OUTPUTS)
    assert "a tensor without elements may have 65,536 of other sizes" in refused(
        tensor(shape=shape, data=[]), signature=signature
    )
    assert read(tensor(shape=[9, 0], data=[]), signature=signature).rows == 9


MANY = 60_000
"""Numbers whose text is so long that it is read in pieces."""


@pytest.mark.parametrize("spaces", [(",", ":"), (", ", ": ")])
def test_a_long_list_is_read_in_pieces_and_gives_what_it_gives_in_one(spaces):
    values = np.random.default_rng(0).normal(size=MANY).tolist()
    body = json.dumps({"inputs": [tensor(shape=(MANY // 3, 3), data=values)], "id": "long"}, separators=spaces).encode()
    assert len(lists.lifted(body)[1]) == 1
    request = wire.read(body, None, Expected(ONE))
    assert request.id == "long"
    assert (request.columns["x"] == np.array(values, np.float32).reshape(-1, 3)).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text.replace(b"7.0,7.0", b"7.0,,7.0", 1), "data: is not JSON"),
        (lambda text: text.replace(b"7.0,7.0", b"7.0,true", 1), "came a boolean"),
        (lambda text: text.replace(b"7.0,7.0", b"7.0,null", 1), "null is not allowed"),
        (lambda text: text.replace(b"7.0,7.0", b"7.0,1e99", 1), "element 1, 1e.99, does not fit into FP32"),
        (lambda text: text.replace(b"7.0]", b"1e99]", 1), "element 59999, 1e.99, does not fit into FP32"),
        (lambda text: text.replace(b"7.0,7.0", b"7.0,NaN", 1), "NaN is not JSON"),
        (lambda text: text.replace(b"7.0,7.0", b"7.0", 1), "wants 60000 elements, came 59999"),
        (lambda text: text.replace(b"7.0]", b"7.0,]", 1), "data: is not JSON"),
        (lambda text: text.replace(b"7.0]", b"7.0", 1), "is not JSON"),
        (lambda text: text.replace(b'"data"', b'"data":3,"data"', 1), "twice"),
    ],
)
def test_what_is_wrong_in_a_long_list_is_said_in_the_same_words(change, words):
    text = orjson.dumps({"inputs": [tensor(shape=(MANY // 3, 3), data=[7.0] * MANY)]})
    with pytest.raises(RequestError, match=words):
        wire.read(change(text), None, Expected(ONE))


def test_what_stands_for_a_long_list_is_nothing_that_a_client_can_use():
    with pytest.raises(RequestError, match="expected a list, came a string"):
        read(tensor(data=f"{lists.MARK}0"))


def test_nested_lists_are_read_in_pieces_and_give_what_they_give_in_one():
    values = np.random.default_rng(0).normal(size=(MANY // 3, 3))
    body = orjson.dumps({"inputs": [tensor(shape=values.shape, data=values.tolist())], "id": "long"})
    _, parts = lists.lifted(body)
    assert max(len(text) for _, text in parts[f"{lists.MARK}0"].pieces("data")) < 2 * lists.BYTES
    for text in (body, json.dumps(json.loads(body), indent=1).encode()):
        request = wire.read(text, None, Expected(ONE))
        assert (request.columns["x"] == values.astype(np.float32)).all()


def test_long_lists_of_texts_are_cut_at_no_comma_within_a_text():
    signature = Signature("t", (Field("s", "BYTES"),), OUTPUTS)
    texts = ["a],b", '"],[', "\\", '\\",', "[{", "ü\n"] * 20_000
    body = orjson.dumps({"inputs": [tensor("s", "BYTES", (len(texts),), data=texts)]})
    _, parts = lists.lifted(body)
    assert len(parts[f"{lists.MARK}0"].cuts) > 5
    assert wire.read(body, None, Expected(signature)).columns["s"].tolist() == texts


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda text: text.replace(b"[7.0],[7.0]", b"[7.0],,[7.0]", 1),
            "is not JSON: .*, near byte [0-9]+ of the body",
        ),
        (lambda text: text.replace(b"[7.0],[7.0]", b"[7.0],[true]", 1), "came a boolean"),
        (
            lambda text: text.replace(b"[7.0],[7.0]", b"[7.0],[7.0,7.0]", 1),
            "a list at axis 1 has 2 items, shape says 1",
        ),
        (lambda text: text.replace(b"[7.0],[7.0]", b"[7.0],7.0", 1), "lists are nested unevenly at axis 1"),
        (lambda text: text.replace(b"[7.0],[7.0]", b"[7.0],[null]", 1), "null is not allowed"),
        (lambda text: text.replace(b"[7.0],[7.0]", b"[7.0]", 1), "wants 60000 elements, came 59999"),
        (lambda text: text.replace(b"[7.0]]", b"[7.0],]", 1), "is not JSON"),
        (lambda text: text.replace(b"[7.0]]", b"[7.0]", 1), "is not JSON"),
    ],
)
def test_what_is_wrong_in_long_nested_lists_is_said_in_the_same_words(change, words):
    signature = Signature("t", (Field("x", "FP32", (-1, 1)),), OUTPUTS)
    body = b"7.0".join((b"[7.0],[", b"]")).join((b"", b"," + b",".join([b"[7.0]"] * (MANY - 2))))
    text = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[60000,1],"data":[%s]}]}' % body
    assert wire.read(text, None, Expected(signature)).rows == MANY
    with pytest.raises(RequestError, match=words):
        wire.read(change(text), None, Expected(signature))


@pytest.mark.parametrize("shape", [(1, MANY), (1, 1, MANY), (1, MANY // 3, 3), (1, 1, MANY // 3, 3)])
def test_one_long_item_within_brackets_of_its_own_is_read_in_pieces(shape):
    signature = Signature("t", (Field("x", "FP32", (-1,) * len(shape)),), OUTPUTS)
    values = np.random.default_rng(0).normal(size=shape)
    body = orjson.dumps({"inputs": [tensor(shape=shape, data=values.tolist())]})
    for text in (body, json.dumps(json.loads(body), indent=1).encode()):
        _, parts = lists.lifted(text)
        assert len(parts[f"{lists.MARK}0"].cuts) > 3
        assert (wire.read(text, None, Expected(signature)).columns["x"] == values.astype(np.float32)).all()


@pytest.mark.parametrize(
    "shape", [(MANY, 1), (1, MANY // 3, 3), (2, MANY // 2), (1, 1, MANY), (MANY - 1, 1), (2, MANY)]
)
def test_one_long_item_of_another_shape_is_refused(shape):
    signature = Signature("t", (Field("x", "FP32", (-1,) * len(shape)),), OUTPUTS)
    body = orjson.dumps({"inputs": [tensor(shape=shape, data=[[7.5] * MANY])]})
    with pytest.raises(RequestError, match=r"inputs\[0\] \(x\)\.data"):
        wire.read(body, None, Expected(signature))


def test_two_long_items_are_read_whatever_their_brackets_look_like():
    signature = Signature("t", (Field("x", "FP32", (-1, -1)),), OUTPUTS)
    body = orjson.dumps({"inputs": [tensor(shape=(2, MANY), data=[[7.5] * MANY] * 2)]})
    assert (wire.read(body, None, Expected(signature)).columns["x"] == 7.5).all()
    with pytest.raises(RequestError, match="a list at axis 1 has 1 items, shape says 60000"):
        wire.read(body.replace(b"],[" + b"7.5," * (MANY - 1), b"],["), None, Expected(signature))
