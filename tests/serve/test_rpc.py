"""The gRPC port over real sockets: methods, status codes and words, streams, deadlines, health."""

from __future__ import annotations

import struct
import threading

import grpc
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelmill.errors import RequestError
from modelmill.protocol.schema import DTYPES, NUMBERS, VARINT, packed, schema, tagged, varint
from modelmill.serve.request import LONG_BYTES, encode
from modelmill.serve.rpc import envelope, tensors
from modelmill.serve.rpc.methods import CONTROL_BYTES
from modelmill.serve.server import Limits, Service

PACKAGE = "/inference.GRPCInferenceService/"
MLSERVER = "/inference.model_repository.ModelRepositoryService/"
HEALTH = "/grpc.health.v1.Health/"


@pytest.fixture(scope="module")
def service(registry):
    with Service(registry, grpc_port=0) as service:
        yield service


class Rpc:
    """A client that knows the messages by the .proto files."""

    def __init__(self, url):
        self.channel = grpc.insecure_channel(url)

    def __call__(self, path, timeout=20, metadata=(), **request):
        method = schema().methods[path]
        call = self.channel.unary_unary(path)
        answer = call(schema().encode(method.request, request), timeout=timeout, metadata=metadata)
        return schema().decode(method.response, answer)

    def bytes(self, path, message, timeout=20):
        return self.channel.unary_unary(path)(message, timeout=timeout)

    def refused(self, path, **request):
        with pytest.raises(grpc.RpcError) as error:
            self(path, **request)
        return error.value.code().name, error.value.details(), dict(error.value.trailing_metadata())


@pytest.fixture
def rpc(service):
    client = Rpc(service.grpc_url)
    yield client
    client.channel.close()


def tensor(name, shape, datatype="FP32", **rest):
    return {"name": name, "datatype": datatype, "shape": shape, **rest}


def flower(**rest):
    inputs = [tensor("length", [2]), tensor("width", [2])]
    raw = [struct.pack("<2f", 3, 1), struct.pack("<2f", 1, 3)]
    return {"model_name": "flowers", "inputs": inputs, "raw_input_contents": raw, **rest}


def test_the_service_says_who_it_is_and_what_it_serves(rpc):
    assert rpc(f"{PACKAGE}ServerLive") == {"live": True}
    assert rpc(f"{PACKAGE}ServerReady") == {"ready": True}
    assert rpc(f"{PACKAGE}ModelReady", name="flowers", version="2") == {"ready": True}
    assert rpc(f"{PACKAGE}ModelReady", name="nobody") == {"ready": False}
    assert "statistics" in rpc(f"{PACKAGE}ServerMetadata")["extensions"]
    metadata = rpc(f"{PACKAGE}ModelMetadata", name="pictures")
    assert metadata["platform"] == "onnxruntime_onnx"
    assert metadata["inputs"][0]["shape"].tolist() == [-1, 8, 8]
    assert rpc(f"{PACKAGE}ModelMetadata", name="flowers")["versions"] == ["1", "2"]
    config = rpc(f"{PACKAGE}ModelConfig", name="pictures")["config"]
    assert config["input"][0]["dims"].tolist() == [8, 8]
    assert config["input"][0]["data_type"] == schema().enums["inference.DataType"]["TYPE_FP32"]


def test_an_answer_for_which_memory_does_not_suffice_is_refused(rpc, monkeypatch):
    def full(array):
        raise MemoryError

    monkeypatch.setattr(tensors, "encode", full)
    code, words, _ = rpc.refused(f"{PACKAGE}ModelInfer", **flower())
    assert (code, words[:35]) == ("RESOURCE_EXHAUSTED", "body: needs more memory than there ")


def test_raw_tensors_are_answered_as_raw_tensors(rpc):
    answer = rpc(f"{PACKAGE}ModelInfer", **flower(id="seven"))
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("flowers", "1", "seven")
    assert [output["name"] for output in answer["outputs"]] == ["label", "probabilities"]
    assert answer["raw_output_contents"][0] == encode(np.array(["long", "wide"], object))
    found = np.frombuffer(answer["raw_output_contents"][1], "<f4").reshape(2, 2)
    assert found[0, 0] == pytest.approx(1 / (1 + np.exp(-4)), abs=1e-6)


def test_the_same_head_with_other_tensors_is_another_answer(rpc):
    for lengths, label in (((3, 3), "long"), ((0, 0), "wide"), ((3, 3), "long")):
        raw = [struct.pack("<2f", *lengths), struct.pack("<2f", 1, 1)]
        answer = rpc(f"{PACKAGE}ModelInfer", **flower(raw_input_contents=raw))
        assert answer["raw_output_contents"][0] == encode(np.array([label, label], object))


def test_a_version_answers_by_its_number(rpc):
    answer = rpc(f"{PACKAGE}ModelInfer", **flower(model_version="2"))
    assert answer["model_version"] == "2"
    assert answer["raw_output_contents"][0] == encode(np.array(["wide", "long"], object))


EVERY = [
    tensor("name", [1], "BYTES", contents={"bytes_contents": ["ü".encode()]}),
    tensor("code", [1], "BYTES", contents={"bytes_contents": [b"b"]}),
    tensor("count", [1], "INT64", contents={"int64_contents": [-3]}),
    tensor("flag", [1], "BOOL", contents={"bool_contents": [True]}),
    tensor("day", [1], "INT64", contents={"int64_contents": [-(2**63)]}),
    tensor("small", [1, 2, 2], "UINT8", contents={"uint_contents": [1, 2, 3, 255]}),
    tensor("vector", [1, 3], "FP32", contents={"fp32_contents": [0.5, float("nan"), 2]}),
]


def test_typed_contents_are_taken_and_given(rpc):
    asked = {"binary_data_output": {"bool_param": False}}
    answer = rpc(f"{PACKAGE}ModelInfer", model_name="mixed", inputs=EVERY, parameters=asked)
    contents = [output["contents"] for output in answer["outputs"]]
    assert "raw_output_contents" not in answer
    assert contents[0] == {"bytes_contents": ["ü".encode()]}
    assert contents[2]["int64_contents"].tolist() == [-3]
    assert contents[3]["bool_contents"].tolist() == [True]
    assert contents[5]["uint_contents"].tolist() == [1, 2, 3, 255]
    assert contents[6]["fp32_contents"].tolist() == pytest.approx([0.5, float("nan"), 2], nan_ok=True)
    raw = rpc(f"{PACKAGE}ModelInfer", model_name="mixed", inputs=EVERY)
    assert raw["raw_output_contents"][5] == bytes([1, 2, 3, 255])


CODED = {"parameters": {"content_type": {"string_param": "base64"}}}


def test_texts_that_come_as_base64_are_decoded(rpc):
    plain = {"name": [b"a"], "code": [b"aGVsbG8="]}
    typed = [{**each, "contents": {"bytes_contents": plain[each["name"]]}} for each in EVERY[:2]] + EVERY[2:]
    typed[1] |= CODED
    outputs = [{"name": "code_out"}]
    answer = rpc(f"{PACKAGE}ModelInfer", model_name="mixed", inputs=typed, outputs=outputs)
    assert answer["raw_output_contents"] == [encode(np.array(["hello"], object))]
    heads = [{key: value for key, value in each.items() if key != "contents"} for each in typed]
    for text, code in (("hello", b"aGVsbG8="), ("a", b"YQ==")):  # the second is read as the first was
        raw = [struct.pack("<I", 1) + b"a", struct.pack("<I", len(code)) + code]
        raw += [bytes(8), b"\1", bytes(8), bytes(4), bytes(12)]
        answer = rpc(f"{PACKAGE}ModelInfer", model_name="mixed", inputs=heads, outputs=outputs, raw_input_contents=raw)
        assert answer["raw_output_contents"] == [encode(np.array([text], object))]


def test_what_is_not_base64_is_refused(rpc):
    wrong = [EVERY[0], {**EVERY[1], **CODED}, *EVERY[2:]]
    code, words, _ = rpc.refused(f"{PACKAGE}ModelInfer", model_name="mixed", inputs=wrong)
    assert (code, "content_type says base64" in words) == ("INVALID_ARGUMENT", True)


def test_the_best_classes_are_given_as_text(rpc):
    asked = [{"name": "probabilities", "parameters": {"classification": {"int64_param": 1}}}]
    answer = rpc(f"{PACKAGE}ModelInfer", **flower(outputs=asked))
    assert answer["outputs"][0]["datatype"] == "BYTES"
    assert answer["outputs"][0]["shape"].tolist() == [2, 1]
    assert answer["raw_output_contents"][0] == encode(np.array(["0.982014:0:long", "0.982014:1:wide"], object))


TWO = struct.pack("<2f", 1, 2)


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"model_name": "flower"}, "NOT_FOUND", "Did you mean flowers?"),
        ({"model_version": "77"}, "NOT_FOUND", "77"),
        ({"model_version": "x"}, "INVALID_ARGUMENT", "not the number of a version"),
        ({"inputs": []}, "INVALID_ARGUMENT", "missing: length, width"),
        ({"inputs": [tensor("x", [2])]}, "INVALID_ARGUMENT", "no input 'x'"),
        ({"inputs": [tensor("width", [2])] * 2}, "INVALID_ARGUMENT", "comes twice"),
        ({"inputs": [tensor("length", [2], "FP64")]}, "INVALID_ARGUMENT", "expected FP32, came 'FP64'"),
        ({"inputs": [tensor("length", [1, 2])]}, "INVALID_ARGUMENT", "expected [-1], came [1, 2]"),
        ({"inputs": [tensor("length", [0])]}, "INVALID_ARGUMENT", "no rows"),
        ({"inputs": [tensor("length", [-2])]}, "INVALID_ARGUMENT", "a list of sizes"),
        ({"inputs": [tensor("length", [2**40])]}, "INVALID_ARGUMENT", "missing: width"),
        ({"raw_input_contents": [TWO]}, "INVALID_ARGUMENT", "has 1 tensors for 2 inputs"),
        ({"raw_input_contents": [TWO, TWO[:7]]}, "INVALID_ARGUMENT", "wants 8 bytes, came 7"),
        ({"raw_input_contents": [TWO, b"\xff" * 8]}, "INVALID_ARGUMENT", "a value is missing"),
        ({"raw_input_contents": []}, "INVALID_ARGUMENT", "Send fp32_contents, or raw_input_contents"),
        ({"outputs": [{"name": "labels"}]}, "INVALID_ARGUMENT", "Did you mean label?"),
        ({"outputs": [{"name": "label"}] * 2}, "INVALID_ARGUMENT", "asked for twice"),
        ({"parameters": {"sequence_id": {"int64_param": 5}}}, "INVALID_ARGUMENT", "is not supported"),
        ({"parameters": {"priority": {"string_param": "1"}}}, "INVALID_ARGUMENT", "parameters.priority"),
        ({"parameters": {"timeout": {"int64_param": -1}}}, "INVALID_ARGUMENT", "parameters.timeout"),
        ({"parameters": {"x": {}}}, "INVALID_ARGUMENT", "has no value"),
    ],
)
def test_a_wrong_request_is_refused_with_the_words_of_http(rpc, change, code, words):
    got, details, _ = rpc.refused(f"{PACKAGE}ModelInfer", **flower(**change))
    assert got == code
    assert words in details


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        ({"fp64_contents": [1, 2]}, "expected fp32_contents for FP32, came fp64_contents"),
        ({"fp32_contents": [1, 2, 3]}, "wants 2 elements, came 3"),
        ({"fp32_contents": [1, float("nan")]}, "a value is missing"),
    ],
)
def test_wrong_typed_contents_are_refused(rpc, contents, words):
    good = tensor("length", [2], contents={"fp32_contents": [1, 2]})
    inputs = [good, tensor("width", [2], contents=contents)]
    code, details, _ = rpc.refused(f"{PACKAGE}ModelInfer", model_name="flowers", inputs=inputs)
    assert code == "INVALID_ARGUMENT"
    assert words in details
    both = flower(inputs=[good, tensor("width", [2])])
    assert "beside raw_input_contents" in rpc.refused(f"{PACKAGE}ModelInfer", **both)[1]


def test_a_number_that_does_not_fit_is_refused(rpc):
    inputs = [*EVERY[:5], tensor("small", [1, 2, 2], "UINT8", contents={"uint_contents": [1, 2, 3, 256]}), EVERY[6]]
    said = rpc.refused(f"{PACKAGE}ModelInfer", model_name="mixed", inputs=inputs)[1]
    assert "element 3, 256, does not fit into UINT8" in said


def test_what_is_no_message_is_refused(rpc):
    for message in (b"\xff", b"\x0a\x05ab", b"\x0a\x02\xff\xfe", b"\x00\x01", b"\x3b", b"\x0b"):
        with pytest.raises(grpc.RpcError) as error:
            rpc.bytes(f"{PACKAGE}ModelInfer", message)
        assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_methods_that_are_not_offered_say_so(rpc):
    for name in ("SystemSharedMemoryStatus", "TraceSetting", "Nonsense"):
        with pytest.raises(grpc.RpcError) as error:
            rpc.bytes(f"{PACKAGE}{name}", b"")
        assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_message_over_the_limit_is_refused(registry):
    with Service(registry, ["flowers"], limits=Limits(body_bytes=100_000), grpc_port=0) as service:
        rpc = Rpc(service.grpc_url)
        with pytest.raises(grpc.RpcError) as error:
            rpc.bytes(f"{PACKAGE}ModelInfer", bytes(300_000))
        assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert rpc(f"{PACKAGE}ServerLive") == {"live": True}
        rpc.channel.close()


def test_models_are_unloaded_and_loaded_in_every_dialect(registry):
    with Service(registry, grpc_port=0) as service:
        rpc = Rpc(service.grpc_url)

        def states():
            models = rpc(f"{PACKAGE}RepositoryIndex")["models"]
            return {model["name"]: model["state"] for model in models}

        assert states() == {"flowers": "READY", "mixed": "READY", "pictures": "READY"}
        rpc(f"{PACKAGE}RepositoryModelUnload", model_name="flowers")
        assert states()["flowers"] == "UNAVAILABLE"
        ready = rpc(f"{PACKAGE}RepositoryIndex", ready=True)["models"]
        assert [model["name"] for model in ready] == ["mixed", "pictures"]
        assert "is unloaded" in rpc.refused(f"{PACKAGE}ModelInfer", **flower())[1]
        assert rpc(f"{PACKAGE}RepositoryModelLoad", repository_name="flowers")["isLoaded"]
        assert states()["flowers"] == "READY"
        rpc(f"{MLSERVER}RepositoryModelUnload", model_name="flowers")
        assert rpc(f"{MLSERVER}RepositoryIndex")["models"][-1]["state"] == "UNAVAILABLE"
        rpc(f"{MLSERVER}RepositoryModelLoad", model_name="flowers")
        assert rpc(f"{PACKAGE}ModelInfer", **flower())["model_version"] == "1"
        for verb in ("Load", "Unload"):
            assert rpc.refused(f"{PACKAGE}RepositoryModel{verb}", model_name="nobody")[0] == "NOT_FOUND"
        config = {"config": {"string_param": "{}"}}
        refused = rpc.refused(f"{PACKAGE}RepositoryModelLoad", model_name="flowers", parameters=config)
        assert refused[0] == "INVALID_ARGUMENT"
        rpc.channel.close()


def test_a_stream_answers_in_order_and_survives_refusals(rpc):
    method = schema().methods[f"{PACKAGE}ModelStreamInfer"]
    requests = [flower(id="0"), flower(id="1", model_name="nobody"), flower(id="2")]
    call = rpc.channel.stream_stream(method.path)
    answers = call((schema().encode(method.request, request) for request in requests), timeout=20)
    found = [schema().decode(method.response, answer) for answer in answers]
    assert [answer["infer_response"]["id"] for answer in found] == ["0", "1", "2"]
    assert [bool(answer.get("error_message")) for answer in found] == [False, True, False]
    assert "'nobody' is not served" in found[1]["error_message"]
    final = {"triton_final_response": {"bool_param": True}}
    assert [answer["infer_response"]["parameters"] for answer in found] == [final] * 3
    assert "parameters" not in rpc(f"{PACKAGE}ModelInfer", **flower())


def test_health_is_checked_and_watched(rpc):
    assert rpc(f"{HEALTH}Check", service="inference.GRPCInferenceService") == {"status": 1}
    assert rpc.refused(f"{HEALTH}Check", service="other")[0] == "NOT_FOUND"
    method = schema().methods[f"{HEALTH}Watch"]
    call = rpc.channel.unary_stream(method.path)
    answers = call(schema().encode(method.request, {}), timeout=20)
    assert schema().decode(method.response, next(answers)) == {"status": 1}
    answers.cancel()


GOOD = {
    "model_name": "mixed",
    "id": "1",
    "parameters": {"priority": {"int64_param": 1}},
    "inputs": EVERY,
    "outputs": [{"name": "name_out"}, {"name": "vector_out", "parameters": {"classification": {"int64_param": 1}}}],
}
ODD = {
    "string": st.text(max_size=8),
    "bytes": st.binary(max_size=8),
    "bool": st.booleans(),
    "int32": st.integers(-(2**31), 2**31 - 1),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "uint32": st.integers(0, 2**32 - 1),
    "uint64": st.integers(0, 2**64 - 1),
    "float": st.floats(width=32),
    "double": st.floats(),
}


@st.composite
def mutated(draw, name, value):
    """A message with some of its fields replaced, left out, or given twice, at any depth."""
    found = dict(value)
    for entry in schema().messages[name]:
        what = draw(st.sampled_from(["keep"] * 12 + ["drop", "odd", "inside"]))
        if what == "drop":
            found.pop(entry.name, None)
        elif what == "odd" and entry.type in ODD and not entry.key:
            odd = ODD[entry.type]
            found[entry.name] = draw(st.lists(odd, max_size=6)) if entry.repeated else draw(odd)
        elif what == "inside" and entry.type in schema().messages and entry.name in found:
            inner = found[entry.name]
            if entry.key:
                found[entry.name] = {**inner, draw(st.text(max_size=6)): draw(mutated(entry.type, {}))}
            elif entry.repeated and inner:
                place = draw(st.integers(0, len(inner) - 1))
                changed = draw(mutated(entry.type, inner[place]))
                found[entry.name] = [*inner[:place], changed, *inner[place + draw(st.integers(0, 1)) :]]
            elif not entry.repeated:
                found[entry.name] = draw(mutated(entry.type, inner))
    return found


CLIENTS_OWN = ("OK", "INVALID_ARGUMENT", "NOT_FOUND", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED")


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(request=mutated("inference.ModelInferRequest", GOOD))
def test_a_mutated_request_is_never_our_fault(rpc, request):
    message = schema().encode("inference.ModelInferRequest", request)
    call = rpc.channel.unary_unary(f"{PACKAGE}ModelInfer").future(message, timeout=20)
    assert call.code().name in CLIENTS_OWN, call.details()


def test_a_model_that_is_asked_over_grpc_is_in_use(rpc, service):
    """What was used longest ago leaves memory first."""
    endpoint = service.server.catalogue.served["flowers"]
    endpoint.used = 0.0
    rpc(f"{PACKAGE}ModelInfer", **flower())
    assert endpoint.used > 0.0


FLOWERS = tagged(1, b"flowers")
UNKNOWN = {"number": b"\xa0\x01\x00", "four bytes": b"\xa5\x01abcd", "bytes": b"\x42\x00"}
INSIDE = {
    "inputs": b"\x2a\x00" * 2000,
    "outputs": b"\x32\x00" * 2000,
    "parameters": b"\x22\x00" * 2000,
    "values of a parameter": tagged(4, tagged(1, b"a") + tagged(2, b"\x08\x01" * 2000)),
    "unknown ones of an input": tagged(5, tagged(1, b"length") + b"\x78\x00" * 2000),
    "parameters of an input": tagged(5, tagged(1, b"length") + b"\x22\x00" * 2000),
    "contents of an input": tagged(5, tagged(1, b"length") + b"\x2a\x00" * 2000),
}


def words_of(rpc, path, message):
    with pytest.raises(grpc.RpcError) as error:
        rpc.bytes(path, message)
    return error.value.code().name, error.value.details()


@pytest.mark.parametrize("unit", UNKNOWN.values(), ids=UNKNOWN)
def test_a_request_has_only_so_many_fields_that_nobody_knows(rpc, unit):
    good = schema().encode("inference.ModelInferRequest", flower())
    assert rpc.bytes(f"{PACKAGE}ModelInfer", good + unit * 900)
    code, words = words_of(rpc, f"{PACKAGE}ModelInfer", good + unit * 1001)
    assert code == "INVALID_ARGUMENT"
    assert words.startswith("message: came more than 1,000 fields that it does not have, expected 1,000 at most.")


@pytest.mark.parametrize("rest", INSIDE.values(), ids=INSIDE)
def test_what_is_within_a_request_has_only_so_many_fields(rpc, rest):
    code, words = words_of(rpc, f"{PACKAGE}ModelInfer", FLOWERS + rest)
    assert code == "INVALID_ARGUMENT"
    assert "came more than 1,128 fields" in words


@pytest.mark.parametrize("unit", [b"\x0a\x00", b"\x1a\x00", b"\x2a\x00", b"\x3a\x00"])
def test_a_request_has_only_so_many_fields_of_any_kind(rpc, unit):
    code, words = words_of(rpc, f"{PACKAGE}ModelInfer", FLOWERS + unit * (envelope.FIELDS_MOST + 1))
    assert (code, "came more than 20,000 fields" in words) == ("INVALID_ARGUMENT", True)


def test_other_methods_take_short_messages_of_few_fields(rpc):
    for name in ("ModelMetadata", "RepositoryModelLoad", "ServerLive"):
        code, words = words_of(rpc, f"{PACKAGE}{name}", UNKNOWN["number"] * 1001)
        assert (code, "came more than 1,000 fields" in words) == ("INVALID_ARGUMENT", True)
        assert words_of(rpc, f"{PACKAGE}{name}", bytes(CONTROL_BYTES + 1))[0] == "RESOURCE_EXHAUSTED"


def test_a_name_is_no_longer_than_names_are(rpc):
    for field in (1, 2):
        code, words = words_of(rpc, f"{PACKAGE}ModelInfer", tagged(field, b"x" * 2000))
        assert (code, "has 2000 bytes" in words) == ("INVALID_ARGUMENT", True)


class Watched:
    """Calls a function, and remembers in which threads."""

    def __init__(self, call):
        self.call = call
        self.threads = []

    def __call__(self, *given):
        self.threads.append(threading.get_ident())
        return self.call(*given)


@pytest.fixture
def watched(monkeypatch):
    """Watches a function of the module `tensors`."""

    def watch(name):
        found = Watched(getattr(tensors, name))
        monkeypatch.setattr(tensors, name, found)
        return found

    return watch


def typed(rows):
    """A request for `mixed` with so many rows, all of it in typed contents, which no short way can have."""
    inputs = [
        tensor("name", [rows], "BYTES", contents={"bytes_contents": [b"ab"] * rows}),
        tensor("code", [rows], "BYTES", contents={"bytes_contents": [b"b"] * rows}),
        tensor("count", [rows], "INT64", contents={"int64_contents": [-3] * rows}),
        tensor("flag", [rows], "BOOL", contents={"bool_contents": [True] * rows}),
        tensor("day", [rows], "INT64", contents={"int64_contents": [5] * rows}),
        tensor("small", [rows, 2, 2], "UINT8", contents={"uint_contents": [7] * 4 * rows}),
        tensor("vector", [rows, 3], "FP32", contents={"fp32_contents": [1] * 3 * rows}),
    ]
    return {"model_name": "mixed", "inputs": inputs}


@pytest.mark.parametrize(("rows", "is_long"), [(1000, False), (3000, True)])
def test_a_long_head_is_read_off_the_loop_and_a_short_one_once(rpc, service, watched, rows, is_long):
    reads = watched("plan")
    request = typed(rows)
    assert (len(schema().encode("inference.ModelInferRequest", request)) > LONG_BYTES) == is_long
    assert rpc(f"{PACKAGE}ModelInfer", **request)["outputs"][0]["shape"].tolist() == [rows]
    assert [thread != service.thread.ident for thread in reads.threads] == [is_long]


def test_long_texts_are_read_and_written_off_the_loop(rpc, service, watched):
    reads, writes = watched("columns"), watched("answer")
    rows = 20_000
    request = typed(1)
    raw = []
    for each in request["inputs"]:
        (given,) = each.pop("contents").values()
        each["shape"][0] = rows
        dtype = object if each["datatype"] == "BYTES" else {"BOOL": "?", "UINT8": "u1", "FP32": "<f4"}
        values = [value.decode() if isinstance(value, bytes) else value for value in given] * rows
        raw.append(encode(np.array(values, dtype if dtype is object else dtype.get(each["datatype"], "<i8"))))
    answer = rpc(f"{PACKAGE}ModelInfer", **request, raw_input_contents=raw)
    assert answer["raw_output_contents"] == raw
    assert service.thread.ident not in (*reads.threads, *writes.threads)
    assert reads.threads
    assert writes.threads


@given(data=st.data(), type=st.sampled_from(sorted(NUMBERS)))
def test_numbers_are_the_same_packed_one_by_one_and_in_pieces(data, type):
    entry = next(
        entry for entry in schema().messages["inference.InferTensorContents"] if entry.type == type and entry.repeated
    )
    values = np.array(data.draw(st.lists(ODD[type], min_size=1, max_size=90)), DTYPES[type])
    pieces = [packed([value], type) for value in values.tolist()]
    assert packed(values, type) == b"".join(pieces)
    one_by_one = [varint(entry.number << 3 | NUMBERS[type]) + piece for piece in pieces]
    cut = data.draw(st.integers(0, len(values)))
    sent = [
        b"".join(one_by_one),
        tagged(entry.number, b"".join(pieces)),
        b"".join(one_by_one[:cut]) + tagged(entry.number, b"".join(pieces[cut:])),
    ]
    for message in sent:
        found = schema().decode("inference.InferTensorContents", message)[entry.name]
        assert found.dtype == values.dtype
        assert found.tobytes() == values.tobytes()
    if NUMBERS[type] == VARINT:
        broken = tagged(entry.number, b"\x80") + tagged(entry.number, b"\x01")
        with pytest.raises(RequestError, match="within a number"):
            schema().decode("inference.InferTensorContents", broken)
