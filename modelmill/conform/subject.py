"""The server that is looked at, and the model that is asked: what it says of itself, and requests that fit."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import quote

from modelmill.conform import tensors
from modelmill.conform.body import packed, parts
from modelmill.conform.channel import Channel
from modelmill.conform.deviation import Deviation, LeftOut, shown, wanted
from modelmill.conform.http import Answer, Http

Document = dict[str, Any]
Elements = dict[str, list[Any]]
"""What an answer holds, by output."""

FIRST, SECOND, BOTH = (0,), (1,), (0, 1)
"""The rows that are asked for."""


@dataclass(frozen=True)
class Subject:
    """A server, one of its models, and its gRPC port, where one was given."""

    http: Http
    model: str
    grpc: Channel | None = None
    stated: tuple[Document, ...] = ()
    """The inputs of a model whose metadata name none."""

    @cached_property
    def server(self) -> Document:
        """What GET v2 says."""
        return self.http.ask("GET", "v2").object()

    @cached_property
    def extensions(self) -> tuple[str, ...]:
        """The extensions that it lists."""
        try:
            listed = self.server.get("extensions")
        except Deviation:
            return ()
        return tuple(name for name in listed if isinstance(name, str)) if isinstance(listed, list) else ()

    @cached_property
    def metadata(self) -> Document:
        """What the server says of the model, if it can be used to ask it. Raises LeftOut."""
        try:
            found = self.http.ask("GET", self.path()).object()
            check_metadata(found)
        except Deviation as error:
            raise LeftOut(f"the model's metadata cannot be used: {error}") from None
        return found

    @property
    def inputs(self) -> list[Document]:
        """The inputs, by the metadata, or as they were stated. Raises LeftOut where nobody says them."""
        found: list[Document] = self.metadata["inputs"] or list(self.stated)
        if not found:
            raise LeftOut("the metadata name no inputs; state them: --input NAME:DATATYPE:SHAPE")
        return found

    @cached_property
    def outputs(self) -> dict[str, Document]:
        """The outputs by name, by the metadata; where those name none, as a plain request is answered."""
        listed = self.metadata["outputs"] or self._came()
        return {tensor["name"]: tensor for tensor in listed}

    def _came(self) -> list[Document]:
        """The outputs of a plain answer, any number of rows where the inputs have it."""
        try:
            listed = self.infer(self.request()).object()["outputs"]
            any_rows = [-1] if self.batches else []
            return [{**t, "shape": [*any_rows, *t["shape"][len(any_rows) :]]} for t in listed]
        except (Deviation, KeyError, TypeError) as error:
            raise LeftOut(f"a plain request is not answered: {error}") from None

    @property
    def batches(self) -> bool:
        """Whether any number of rows may be asked for."""
        return all(tensor["shape"] and tensor["shape"][0] == -1 for tensor in self.inputs)

    def batch_size(self) -> int | None:
        """How many rows the model's configuration says that it takes; None where it says nothing."""
        try:
            found = self.http.ask("GET", self.path(call="config")).object().get("max_batch_size")
        except Deviation:
            return None
        return found if type(found) is int else None

    def path(self, version: str = "", call: str = "", model: str | None = None) -> str:
        """The path of the model, or of a call of it.

        >>> Subject(Http("http://a", {}), "m").path("3", "infer")
        'v2/models/m/versions/3/infer'
        """
        name = quote(self.model if model is None else model, safe="")
        parts = [
            "v2/models",
            name,
            *(["versions", quote(version, safe="")] if version else []),
            *([call] if call else []),
        ]
        return "/".join(parts)

    def request(self, rows: tuple[int, ...] = FIRST, nested: bool = False, **rest: Any) -> Document:
        """A request that the model should take.

        What JSON has no form for goes and comes as bytes; raises LeftOut where the server does not list those.
        """
        for tensor in self.inputs:
            if tensor["datatype"] in tensors.HALVES and not self.has_bytes:
                said = "which JSON has no form for, and the server does not list binary_tensor_data"
                raise LeftOut(f"the input {tensor['name']} is {tensor['datatype']}, {said}")
        return self._request(self.rows(rows), nested, **rest)

    def _request(self, rows: tensors.Rows, nested: bool = False, **rest: Any) -> Document:
        found = {"inputs": [tensors.as_input(each, rows, at, nested) for at, each in enumerate(self.inputs)], **rest}
        if self.answers_bytes:
            found["parameters"] = {**rest.get("parameters", {}), "binary_data_output": True}
        return found

    @property
    def has_bytes(self) -> bool:
        """Whether tensors may follow the JSON as bytes."""
        return any(name.partition("(")[0] == "binary_tensor_data" for name in self.extensions)

    @property
    def answers_bytes(self) -> bool:
        """Whether outputs are asked for as bytes, since JSON has no form for one of them."""
        return self.has_bytes and any(tensor["datatype"] in tensors.HALVES for tensor in self.metadata["outputs"])

    def rows(self, numbers: tuple[int, ...] = FIRST) -> tensors.Rows:
        """Rows with what the model takes in them."""
        return tensors.Rows(numbers, self.filling)

    @cached_property
    def filling(self) -> tensors.Filling:
        """What the model takes: elements that all differ, or those where floats stand, or else zeros."""
        datatypes = [tensor["datatype"] for tensor in self.inputs]
        if set(datatypes) & set(tensors.HALVES) and not self.has_bytes:
            return "zeros"
        if self._takes("varied"):
            return "varied"
        return "floats" if any(map(tensors.is_float, datatypes)) and self._takes("floats") else "zeros"

    def _takes(self, filling: tensors.Filling) -> bool:
        """Whether the model answers two rows, each asked for alone."""
        try:
            return all(self.infer(self._request(tensors.Rows(row, filling))).status == 200 for row in (FIRST, SECOND))
        except Deviation:
            return False

    def infer(self, request: Any, version: str = "", headers: Mapping[str, str] | None = None) -> Answer:
        """The answer to a request, a JSON value whose inputs may have bytes as data, or bytes as they are."""
        body, given = (request, headers) if isinstance(request, bytes) else packed(request)
        return self.http.ask("POST", self.path(version, "infer"), body, headers or given)

    def answered(self, request: Any, version: str = "") -> Document:
        """The answer to a request that the model should take, its outputs looked at. Raises Deviation."""
        document, tail = parts(self.infer(request, version))
        self.check_answer(document)
        return tensors.joined(document, tail)

    def check_answer(self, document: Document) -> None:
        """Raise Deviation where an answer has not the outputs of the metadata."""
        outputs = document.get("outputs")
        wanted(isinstance(outputs, list), f"outputs that are no list: {shown(outputs)}")
        assert isinstance(outputs, list), "it was looked at"
        for tensor in outputs:
            tensors.check_tensor(tensor, self.outputs)

    @cached_property
    def usual(self) -> Elements:
        """What the model answers to the first row. Raises LeftOut."""
        return self._plain(FIRST)

    @cached_property
    def second(self) -> Elements:
        """What the model answers to the second row. Raises LeftOut."""
        return self._plain(SECOND)

    @cached_property
    def several(self) -> tuple[tuple[int, ...], Elements]:
        """As many rows as the model takes, and what it answers to them in flat JSON. Raises LeftOut."""
        if self.batches:
            with contextlib.suppress(LeftOut):
                return BOTH, self._plain(BOTH)
        return FIRST, self.usual

    def _plain(self, rows: tuple[int, ...]) -> Elements:
        try:
            return tensors.outputs_of(self.answered(self.request(rows)))
        except Deviation as error:
            raise LeftOut(f"a plain request is not answered: {error}") from None

    def agree(self, found: Elements, expected: Elements, form: str = "in flat JSON") -> None:
        """Raise Deviation where the same data had another answer in another form, which is named.

        Raises LeftOut where the answers say nothing: they differ for one and the same request, or are to zeros.
        """
        self.compare(found, expected, form)
        if self.filling == "zeros":
            raise LeftOut("it holds for zeros, and the model does not answer elements that differ")

    def compare(self, found: Elements, expected: Elements, form: str) -> None:
        """Raise Deviation where answers differ, LeftOut where they do so for one and the same request."""
        for name, elements in expected.items():
            came = found.get(name, [])
            if tensors.same(came, elements):
                continue
            if not self._is_steady():
                raise LeftOut("the model answers the same request with other elements each time")
            first = next((i for i, pair in enumerate(zip(came, elements, strict=False)) if not _equal(pair)), 0)
            raise Deviation(
                f"{name} is {shown(came[first:])}, {form} {shown(elements[first:])}, from element {first} on"
            )

    def _is_steady(self) -> bool:
        """Whether two requests, one after the other, have the same answer."""
        try:
            once, again = self._plain(FIRST), self._plain(FIRST)
        except LeftOut:
            return True
        return all(tensors.same(again.get(name, []), elements) for name, elements in once.items())


def _equal(pair: tuple[Any, Any]) -> bool:
    return tensors.same(pair[:1], pair[1:])


def check_metadata(found: Document) -> None:
    """Raise Deviation where a model's metadata are not as they should be."""
    for side in ("inputs", "outputs"):
        listed = found.get(side)
        wanted(isinstance(listed, list), f"{side} that are no list: {shown(listed)}")
        assert isinstance(listed, list), "it was looked at"
        for tensor in listed:
            wanted(isinstance(tensor, dict), f"a tensor in {side} that is no object: {shown(tensor)}")
            wanted(isinstance(tensor.get("name"), str), f"a tensor in {side} without a name: {shown(tensor)}")
            known = tensor.get("datatype") in tensors.DATATYPES
            wanted(known, f"{tensor['name']} with the datatype {shown(tensor.get('datatype'))}")
            shape = tensor.get("shape")
            sound = isinstance(shape, list) and all(type(size) is int and size >= -1 for size in shape)
            wanted(sound, f"{tensor['name']} with the shape {shown(shape)}")
