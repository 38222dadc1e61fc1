"""The verb `conform`: how any server keeps to the Open Inference Protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelmill.verbs.options import Json
from modelmill.verbs.say import print_json

if TYPE_CHECKING:
    from modelmill.conform.check import Outcome

Url = Annotated[str, typer.Argument(help="Where the server answers, such as http://127.0.0.1:8080.", metavar="URL")]
Grpc = Annotated[
    str, typer.Option("--grpc", help="Where it speaks gRPC, encrypted where the URL is https.", metavar="HOST:PORT")
]
Model = Annotated[str, typer.Option(help="The model to ask; by default one that the server lists.", metavar="NAME")]
Header = Annotated[list[str], typer.Option("--header", help="Goes with every request.", metavar="NAME:VALUE")]
Inputs = Annotated[
    list[str], typer.Option("--input", help="An input that the metadata leave out.", metavar="NAME:DATATYPE:SHAPE")
]
CaFile = Annotated[str, typer.Option(help="Trust certificates of this authority alone.", metavar="FILE")]
Cert = Annotated[str, typer.Option(help="Show this certificate to the server.", metavar="FILE")]
Key = Annotated[str, typer.Option(help="The key of that certificate.", metavar="FILE")]
Timeout = Annotated[float, typer.Option(min=0.1, help="Seconds to wait for an answer.", metavar="SECONDS")]

MARKS = {"holds": "ok", "left out": "-"}
TITLES = {"core": "Core", "extensions": "Extensions", "robustness": "Robustness"}


def conform(
    url: Url,
    grpc: Grpc = "",
    model: Model = "",
    input: Inputs = [],
    header: Header = [],
    ca_file: CaFile = "",
    cert: Cert = "",
    key: Key = "",
    timeout: Timeout = 10.0,
    json: Json = False,
) -> int:
    """Check any server against the Open Inference Protocol: 0 where it keeps to what it offers, else 1."""
    from modelmill.conform.run import examine, report
    from modelmill.tls import Tls

    tls, headers, inputs = Tls(ca_file, cert, key), dict(map(_header, header)), list(map(_input, input))
    subject, outcomes = examine(url, grpc, model, headers, timeout, inputs, tls)
    seen: list[Outcome] = []
    group = ""
    if not json:
        print(f"{subject.http.url}, model {subject.model}")
    for outcome in outcomes:
        seen.append(outcome)
        if json:
            continue
        if outcome.group != group:
            group = outcome.group
            print(f"\n{TITLES[group]}")
        print(_line(outcome), flush=True)
    found = report(subject, seen)
    if json:
        print_json(found)
    else:
        print(f"\n{_summary(found)}")
    return 0 if found["conformant"] else 1


def _line(outcome: Outcome) -> str:
    """One check in a line."""
    mark = MARKS.get(outcome.verdict, outcome.level.upper())
    said = f"  {mark:<6} {outcome.id:<32} {outcome.clause} ({outcome.where})"
    return f"{said}: {outcome.came}" if outcome.came else said


def _summary(found: dict[str, Any]) -> str:
    counts = found["counts"]
    assert isinstance(counts, dict), "a report counts its checks"
    said = {
        True: "The server conforms.",
        False: "The server does not conform.",
        None: "Whether the server conforms is not known: no inference could be asked for.",
    }[found["conformant"]]
    return f"{said} {counts['holds']} hold, {counts['deviates']} deviate, {counts['left_out']} left out."


def _header(text: str) -> tuple[str, str]:
    from modelmill.errors import OutOfBounds

    name, sign, value = text.partition(":")
    if not (name.strip() and sign):
        raise OutOfBounds(f"--header {text}", "expected NAME:VALUE", "Write --header 'authorization: Bearer KEY'.")
    return name.strip().lower(), value.strip()


def _input(text: str) -> dict[str, object]:
    """An input as it is stated: `x:FP32:-1,4`."""
    from modelmill.conform.tensors import DATATYPES
    from modelmill.errors import OutOfBounds

    name, datatype, shape = ["", "", *text.split(":")][-3:]
    sizes = shape.split(",")
    if not name or datatype not in DATATYPES or not all(size.lstrip("-").isdigit() for size in sizes):
        raise OutOfBounds(f"--input {text}", "expected NAME:DATATYPE:SHAPE", "Write --input x:FP32:-1,4.")
    return {"name": name, "datatype": datatype, "shape": [int(size) for size in sizes]}
