"""A version of the registry, loaded to be asked in this process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modelmill.contracts import Array, Outputs
from modelmill.errors import UnknownName
from modelmill.finding import Finding
from modelmill.version import Version

if TYPE_CHECKING:
    from modelmill.bulk.answer import Advance
    from modelmill.dataset import Dataset
    from modelmill.registry.registry import Registry
    from modelmill.runtime.chain import Program


class Loaded:
    """A version, loaded to be asked in this process; state: its runtime session, or those of a pipeline's steps."""

    def __init__(self, version: Version, program: Program, shelf: Registry | None = None) -> None:
        from modelmill.runtime.chain import opened

        self.version = version
        self.program = program
        self._shelf = shelf
        self._session = opened(program)

    def predict(self, rows: Sequence[Any] | Mapping[str, Any] | Array) -> dict[str, Array]:
        """A mapping of output name to array, the first axis the rows.

        rows: a list of rows (objects, or lists in signature order), a mapping of inputs, or one array. Where an
        imported graph has its rows elsewhere, a mapping or an array gives and gets tensors as the signature has them.
        Raises RequestError, naming the row and the field, where a row does not fit the signature.
        """
        from modelmill.runtime.pieces import joined, pieces
        from modelmill.runtime.rows import check, to_columns

        signature = self.version.signature
        if isinstance(rows, np.ndarray):
            rows = rows.tolist() if len(signature.inputs) > 1 else {signature.inputs[0].name: rows}
        if isinstance(rows, Mapping):
            columns = {
                field.name: np.asarray(rows[field.name], dtype=field.dtype)
                for field in signature.inputs
                if field.name in rows
            }
            known = [field.name for field in signature.inputs]
            unknown = sorted(set(rows).difference(known))
            if unknown:
                raise UnknownName.among("predict", "input", unknown[0], known)
            check(columns, signature)
            return self._session.run(columns)
        calls = pieces(to_columns(rows, signature), signature, len(rows))
        return joined([(self._session.run(columns), count) for columns, count in calls], signature)

    def predict_file(self, path: Path) -> dict[str, Array]:
        """The answers for every row of a file."""

        from modelmill.data.read import read_for
        from modelmill.evaluate.judge import answered
        from modelmill.runtime.pieces import check_together

        data = read_for(self.version.signature, path)
        check_together(self.version.signature, data.rows)
        return answered(self._session, data)

    def answer_file(self, path: Path, output: Path, fresh: bool = False) -> Iterator[Advance]:
        """Answer every row of a file into another, on all cores, however large it is; yields how far it is.

        The output appears whole or not at all; the same call goes on where an earlier one was killed, or from the start
        with `fresh`. CSV, Parquet and JSON Lines. Raises ContentError with the row and column that does not fit.
        """
        from modelmill.bulk.answer import answer_file

        return answer_file(self.program, self.version.signature, path, output, fresh)

    def watch(self, path: str | Path, window: int = 0) -> Iterator[Finding]:
        """What is no longer as it was at publishing, in the rows of a file and the model's answers to them.

        window: rows to look at together, at least; 0 looks at all rows at once.
        Raises RegistryError where the version was published without a reference.
        """
        from modelmill.data.read import read_for
        from modelmill.evaluate.judge import answered
        from modelmill.monitor.watch import watch

        reference = self._reference()
        data = read_for(self.version.signature, path)
        answers = answered(self._session, data)
        parts = np.array_split(np.arange(data.rows), max(1, data.rows // window if window > 0 else 1))
        return watch(reference, ((_rows_of(data.columns, part), _rows_of(answers, part)) for part in parts))

    def _reference(self) -> bytes:
        from modelmill.errors import RegistryError
        from modelmill.monitor.reference import FILE

        if self._shelf is None or FILE not in self.version.files:
            hint = f"Build it again: modelmill build SOURCE --name {self.version.name}"
            if not isinstance(self.program, bytes):
                hint = f"Pipelines have none; watch a step: modelmill monitor {self.program.steps[0].model}"
            elif self.version.lineage.source:
                hint = "Versions that are built have one; imported ones do not."
            raise RegistryError(self.version.reference, "was published without a reference to watch against", hint)
        return self._shelf.file(self.version, FILE)

    def as_json(self, answers: Outputs) -> dict[str, Any]:
        """Answers as the service's `POST /predict/NAME` gives them."""
        from modelmill.runtime.rows import to_json

        return {
            "model": self.version.name,
            "version": self.version.number,
            "predictions": to_json(answers, self.version.signature),
        }

    def evaluate(self, source: str, target: str = "", against: Loaded | None = None) -> dict[str, Any]:
        """Metrics with intervals and costs on rows with the truth, as JSON values.

        against: a version whose answers are to be met instead of a truth. Raises ModelError where neither is known.
        """
        from modelmill.evaluate.judge import REPORTED, evaluate, measure
        from modelmill.method import decode

        graph = self.graph
        data = self._truth(source, target) if against is None else self._taught(source, against)
        task = decode("task", {"method": self.version.signature.task if against is None else "compute"})
        return {
            "rows": data.rows,
            "metrics": evaluate(graph, data, self.version.signature, task.metrics, "test", seed=0),
            "costs": measure([graph], data, REPORTED, quick=False)[0],
        }

    @property
    def graph(self) -> bytes:
        """The model as ONNX. Raises UsageError for a pipeline, which has several graphs."""
        from modelmill.errors import UsageError

        if isinstance(self.program, bytes):
            return self.program
        first = self.program.steps[0].model
        hint = f"Evaluate its steps: modelmill evaluate {first}"
        raise UsageError(self.version.reference, "is a pipeline, and what is measured is one graph", hint)

    def _truth(self, source: str, target: str) -> Dataset:
        """The rows of a source with the truth in it."""
        import msgspec

        from modelmill.data.read import read_for
        from modelmill.errors import ModelError

        signature = self.version.signature
        if signature.task == "compute":
            message = "nobody said what its outputs mean, so there is no truth to compare them with"
            raise ModelError(self.version.reference, message, "Compare it with another version: --against NAME@1.")
        return read_for(msgspec.structs.replace(signature, target=target or signature.target), source, labeled=True)

    def _taught(self, source: str, teacher: Loaded) -> Dataset:
        """The rows of a source with another version's answers as what is to be met."""
        from dataclasses import replace

        from modelmill.data.read import read_for
        from modelmill.errors import ModelError
        from modelmill.evaluate.judge import answered
        from modelmill.task.compute import taught

        ours, theirs = self.version.signature, teacher.version.signature
        if ours.inputs != theirs.inputs or ours.outputs != theirs.outputs:
            message = f"takes or gives other things than {teacher.version.reference}"
            raise ModelError(self.version.reference, message, "Compare versions of one model.")
        data = read_for(ours, source)
        return replace(data, target=taught(answered(teacher._session, data)))


def _rows_of(columns: Mapping[str, Array], index: Array) -> dict[str, Array]:
    return {name: values[index] for name, values in columns.items()}
