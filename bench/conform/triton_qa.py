"""Runs the tests of Triton's server that work from outside against our service, test by test.

    python bench/conform/triton_qa.py --qa DIR [--only http_test]
    python bench/conform/triton_qa.py --show

DIR is qa of https://github.com/triton-inference-server/server; nothing of it is kept here. What the tests import is
installed in an environment of its own. Every test is run as a copy that asks our ports (see `FITTED`). One that fails
as it stands, and looks for words or codes of Triton's where ours differ on purpose (`WORDS`), is run once more as a
copy in which ours stand: its second row is of the suite NAME, OUR WORDS. A test whose row is there is not run again.

Left out, since they ask what is not offered and nothing else: generate_endpoint_test (an endpoint, with a model that
answers several times), parameters_test (a model that sees the parameters of a request), http_restricted_api_test and
RestrictedProtocolTest (a shared header for a part of the API; here it is keys with roles), plugins of the client.
"""

from __future__ import annotations

import argparse
import ast
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import models
from setting import Row, Running, copied, ended, interpreter, keep, kept, published, served

NAME = "triton_qa"
LIMIT_S = 300.0
OURS = ", our words"


@dataclass(frozen=True)
class Suite:
    """A file of tests, and what it needs."""

    name: str
    path: str
    """Below DIR."""
    models: tuple[str, ...]
    """What is served meanwhile: where the tests count the models, as many as they want."""
    without: tuple[str, ...] = ()
    """Classes that are left out."""
    env: Mapping[str, str] = field(default_factory=dict)


EXAMPLES = tuple(models.examples())
IDENTITIES = ("simple_identity", "simple_identity_int64", *(name for name in models.tested() if "onnx_zero" in name))

SUITES = (
    Suite("python_http_aio_test", "L0_http/python_http_aio_test.py", (*EXAMPLES, "pt_identity")),
    Suite("python_grpc_aio_test", "L0_grpc/python_grpc_aio_test.py", (*EXAMPLES, "pt_identity", "identity_fp32")),
    Suite("http_test", "L0_http/http_test.py", IDENTITIES),
    Suite(
        "http_input_size_limit_test",
        "L0_http/http_input_size_limit_test.py",
        ("simple_identity", "onnx_zero_1_float32"),
    ),
    Suite("http_request_many_chunks", "L0_http/http_request_many_chunks.py", ("simple",)),
    Suite(
        "python_unit_test",
        "L0_grpc/python_unit_test.py",
        ("simple", "string_identity"),
        without=("RestrictedProtocolTest",),
    ),
    Suite(
        "input_validation_test",
        "L0_input_validation/input_validation_test.py",
        ("input_all_required", "pt_identity", "onnx_object_int32_int32"),
    ),
    Suite("nan_inf_test", "L0_nan_inf/nan_inf_test.py", ("nan_inf_output",)),
    Suite("class_count_test, HTTP", "L0_parameters/class_count_test.py", ("identity_fp32", "identity_bytes")),
    Suite(
        "class_count_test, gRPC",
        "L0_parameters/class_count_test.py",
        ("identity_fp32", "identity_bytes"),
        env={"CLIENT_TYPE": "grpc"},
    ),
)

FITTED = {
    r"np\.NINF": "-np.inf",
    "data_length = 1 << 31": "data_length = 1 << 28",
    r"int_max = \(1 << 31\)": "int_max = (1 << 28)",
}
"""What is changed in every copy, beside the ports: a name that numpy has no more; a body of 3 GB, for which the client
takes 16 GB of memory, where an eighth of it is too large as well."""

RAW = {r"Raw request must only have [^\"]*": "a raw request is for models of one input"}
LARGE = {
    r"\b400,": "413,",
    r"exceeds the maximum allowed value": "bytes or more, the limit is",
    r"(request JSON size| bytes exceeds| exceeds the maximum allowed input size)[^\"]*": "bytes or more, the limit is",
    r"Use --http-max-input-size[^\"]*": "Send fewer rows at a time.",
}

WORDS: dict[str, dict[str, str]] = {
    "test_classification_output_tensor_too_large": {"classification output tensor too large": "would rank"},
    "test_get_server_metadata": {'"triton"': '"modelmill"'},
    "test_multi_variable_dimensions": {r"The shape of the raw input [^\"]*": "a raw request leaves the shape open"},
    "test_multi_inputs": RAW,
    "test_buffer_size_overflow": {
        'causes total element count[^"]*': "elements, came 1",
        "byte size overflow for input": "elements, came 1",
    },
    "test_negative_dimensions": {r"\b500,": "400,", "Unable to parse 'shape'[^\"]*": "expected a list of sizes"},
    "test_load_oversized_file_parameter": {
        r"\b500,": "400,",
        "failed to poll from model repository": "is not supported",
    },
    "test_loading_large_invalid_model": LARGE,
    "test_duplicate_output_names": {"already exists in request": "is asked for twice"},
    "test_duplicate_output_names_rejected": {"already exists in request": "is asked for twice"},
    "test_repository_index_deeply_nested_json": {"Invalid value for 'ready'[^\"]*": "is not JSON"},
    "test_default_limit_raw_binary": LARGE,
    "test_default_limit_json": LARGE,
    "test_large_string_in_json": LARGE,
    "test_chunked_infer_at_max_chunks": {**RAW, "inputs in 'simple' model configuration": ""},
    "test_chunked_infer_over_max_chunks_reject_with_bounded_rss_growth": {
        r'f"Chunked request body[^"]*"': '"a raw request is for models of one input"',
        "repeat_request_count = 100": "repeat_request_count = 10",
    },
    "test_input_validation_required_empty": {r"expected 3 inputs but got [^\"]*": "missing: INPUT0, INPUT1, INPUT2"},
    "test_input_validation_required_missing": {r"expected 3 inputs but got [^\"]*": "missing: INPUT1, INPUT2"},
    "test_model_name_invalid_load": {'model name must not contain[^"]*': "is not served"},
    "test_model_name_empty_load": {'Model name cannot be empty[^"]*': "is not served"},
    "test_model_name_whitespace_only_load": {'Model name cannot be empty[^"]*': "is not served"},
    "test_model_name_valid": {"failed to poll from model repository": "is not served"},
    "test_classificattion_unsupported_data_type": {'class result not available[^"]*': "holds no scores of classes"},
    "test_input_string_shape_validation": {
        r"expected {input_size} string elements[^\"]*": "the bytes end before string 14",
        r"unexpected number of string elements[^\"]*": "bytes follow the last string",
    },
    "test_input_shape_validation": {'input byte size mismatch [^"]*': "wants 32 bytes, came 40"},
}
"""Test: patterns of Triton's words and codes in it, and ours."""

FLOOD = "a limit on the number of chunks: what is too much is said of bytes"
MEMORY = "shared memory"
OPTIONAL = "inputs that may be left out"
PACKED = "compressed bodies over HTTP"
SETTABLE = "a limit of bodies that can be set"
TRACE = "trace settings over the wire"

ABSENT = {
    "test_load_model": "a mode in which models are not loaded and unloaded over the wire",
    "test_unload_model": "a mode in which models are not loaded and unloaded over the wire",
    "test_update_trace_settings": TRACE,
    "test_get_trace_settings": TRACE,
    "test_get_system_shared_memory_status": MEMORY,
    "test_register_system_shared_memory": MEMORY,
    "test_unregister_system_shared_memory": MEMORY,
    "test_get_cuda_shared_memory_status": MEMORY,
    "test_register_cuda_shared_memory": MEMORY,
    "test_unregister_cuda_shared_memory": MEMORY,
    "test_descriptive_status_code": "a length of the queue for one model",
    "test_json_recursion_depth_limit": "data that are nested more deeply than their shape",
    "test_content_encoding_chunked_manually": "a body with both a length and chunks, as RFC 9112 (6.1) leaves open",
    "test_json_dtype_size_expansion_exceeds_limit_error": "the endpoint `generate`",
    "test_default_limit_compressed": PACKED,
    "test_large_input_compressed": PACKED,
    "test_no_leak_on_invalid_inference_header_length": PACKED,
    "test_large_input_raw_binary": SETTABLE,
    "test_large_input_json": SETTABLE,
    "test_chunked_infer_rejected_over_max_chunks": FLOOD,
    "test_input_validation_optional_empty": OPTIONAL,
    "test_input_validation_optional": OPTIONAL,
    "test_input_validation_all_optional": OPTIONAL,
    "test_wrong_input_shape_tensor_size": "shared memory, and TensorRT's shape tensors",
}
"""Test: what it needs that is not offered."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--qa", type=Path)
    parser.add_argument("--only", default="", choices=["", *(suite.name for suite in SUITES)])
    parser.add_argument("--show", action="store_true", help="a summary of the rows; nothing is run")
    chosen = parser.parse_args()
    if not chosen.show:
        if chosen.qa is None or not (chosen.qa / "common").is_dir():
            parser.error("--qa DIR: the folder qa of Triton's server")
        run_all(chosen.qa, [suite for suite in SUITES if chosen.only in ("", suite.name)])
    show()
    return 0


def run_all(qa: Path, suites: Sequence[Suite]) -> None:
    """Run the tests of suites that have no row, and keep what became of each."""
    done = {(row["suite"], row["test"]): row for row in kept(NAME)}
    tests = [(suite, test) for suite in suites for test in tests_of(qa / suite.path, suite.without)]
    left = [(suite, test) for suite, test in tests if not is_done(suite.name, test, done)]
    if not left:
        return
    python = interpreter(NAME)
    graphs = models.tested()
    with published({name: graphs[name] for suite, _ in left for name in suite.models}) as home:
        for suite, found in groupby(left, lambda pair: pair[0]):
            with served(home, suite.models) as service:
                for _, test in found:
                    for row in run(python, qa, suite, test, service):
                        keep(NAME, [row])
                        print(f"{'ok' if row['passed'] else '!!'} {row['suite']}: {test}: {row['why']}", flush=True)


def tests_of(path: Path, without: Sequence[str]) -> list[str]:
    """CLASS.TEST of a file, in its order."""
    classes = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef)]
    return [
        f"{each.name}.{member.name}"
        for each in classes
        if each.name not in without
        for member in each.body
        if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef) and member.name.startswith("test")
    ]


def is_done(suite: str, test: str, done: Mapping[tuple[str, str], Row]) -> bool:
    """Whether there is every row that there should be of a test."""
    first = done.get((suite, test))
    return first is not None and (first["passed"] or not words_of(test) or (suite + OURS, test) in done)


def words_of(test: str) -> dict[str, str]:
    """Triton's words and codes in CLASS.TEST, and ours."""
    return WORDS.get(test.partition(".")[2], {})


def run(python: Path, qa: Path, suite: Suite, test: str, service: Running) -> Iterator[Row]:
    """What became of a test as it stands; and then, where it failed and there are such, in our words."""
    done = {row["suite"] for row in kept(NAME) if row["test"] == test}
    if suite.name not in done:
        row = once(python, qa, suite, test, service, {})
        yield row
        if row["passed"]:
            return
    if words_of(test):
        yield {**once(python, qa, suite, test, service, words_of(test)), "suite": suite.name + OURS}


def once(python: Path, qa: Path, suite: Suite, test: str, service: Running, words: Mapping[str, str]) -> Row:
    """What became of one copy of a test."""
    ports = {
        r"localhost:8000": service.http,
        "localhost:8001": service.grpc,
        "_http_port = 8000": f"_http_port = {service.http.partition(':')[2]}",
    }
    with tempfile.TemporaryDirectory() as name:
        shutil.copytree(qa / "common", Path(name) / "common")
        folder = Path(name) / "test"
        folder.mkdir()
        copied(qa / suite.path, folder, {**words, **FITTED, **ports})
        command = [str(python), "-W", "ignore", Path(suite.path).name, test]
        began = time.monotonic()
        code, said = ended(command, LIMIT_S, folder, {"SERVER_PID": str(service.pid), **suite.env})
    seconds = round(time.monotonic() - began, 2)
    return {
        "suite": suite.name,
        "test": test,
        "passed": code == 0,
        "seconds": seconds,
        "why": why(said) if code else "",
    }


def why(said: str) -> str:
    """The last line of a failure that names an error; the last line where none does."""
    failure = re.split(r"\n-{70}\nRan ", said)[0].strip()
    found = re.findall(r"^[\w.]*(?:Error|Exception)\b.*$", failure, re.MULTILINE)
    return (found or failure.splitlines() or ["nothing was said"])[-1][:300]


def show() -> None:
    """Print how many tests of each suite pass, and why the others do not."""
    rows = kept(NAME)
    again = {(row["suite"].removesuffix(OURS), row["test"]): row for row in rows if row["suite"].endswith(OURS)}
    for suite in SUITES:
        found = [row for row in rows if row["suite"] == suite.name]
        failed = [again.get((suite.name, row["test"]), row) for row in found if not row["passed"]]
        left = [row for row in failed if not row["passed"]]
        stands, ours = len(found) - len(failed), len(failed) - len(left)
        print(f"{suite.name}: {stands} of {len(found)} as they stand, {ours} more in our words")
        for row in left:
            test = row["test"].partition(".")[2]
            print(f"    {test}: {ABSENT.get(test) or row['why']}")


if __name__ == "__main__":
    sys.exit(main())
