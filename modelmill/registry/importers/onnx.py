"""Models in ONNX files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from msgspec import Meta, structs

from modelmill.contracts import Importer
from modelmill.errors import UnknownName, UsageError
from modelmill.model import Body, Model, Part
from modelmill.registry.quarantine import Limits, examined
from modelmill.signature import Field, Signature

TASK = "compute"
"""The task of a file of which nobody says more."""


class Onnx(Importer):
    """A model in an ONNX file from anywhere, with no code of the training.

    The file is first opened in a process of its own, which may die; a file that is damaged, or made to harm, is refused
    with what is wrong. Inputs and outputs keep names, types and shapes. Where the rows lie is found out by running the
    file on made-up rows. With a `task` the scores of an output become that task's outputs.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".onnx",)

    task: str = ""
    """classify or regress; without it the outputs stay as the file gives them."""
    classes: tuple[str | int, ...] = ()
    """The classes in the order of the scores; those that the file knows, or numbers from 0, where none are named."""
    output: str = ""
    """The output with the scores or values; the first of numbers with fractions where none is named."""
    target: str = ""
    """The column that holds the truth in data to evaluate with."""
    nullable: tuple[str, ...] = ()
    """The inputs of fractions that may miss values: NaN, in JSON null. A text may always be empty."""
    example: str = ""
    """An .npz file with an array an input, as the graph takes them: rows that it can be tried with."""
    seconds: Annotated[float, Meta(gt=0, le=86_400)] = 120.0
    """How long the file may take to be examined."""
    memory_mb: Annotated[float, Meta(ge=0)] = 0.0
    """What examining it may take; 0 is ten times the file and 2 GB."""

    def __call__(self, path: str) -> Model:
        """The model in the file. Raises ModelError, which says what is wrong with it."""
        wanted = {"task": self.task, "classes": self.classes, "output": self.output, "example": self.example}
        answer, graph = examined(path, wanted, Limits(self.seconds, self.memory_mb))
        signature = Signature(
            task=self.task or TASK,
            inputs=self._nullable(path, answer.inputs),
            outputs=answer.outputs,
            classes=answer.classes,
            target=self.target,
            example=answer.example,
            series=answer.series,
        )
        return Model((Part(Body("graph", graph)),), signature, answer.notes)

    def _nullable(self, path: str, inputs: tuple[Field, ...]) -> tuple[Field, ...]:
        """The inputs, of which some may miss values. Raises UnknownName, UsageError."""
        able = [field.name for field in inputs if field.datatype.startswith("FP")]
        for name in self.nullable:
            if name not in [field.name for field in inputs]:
                raise UnknownName.among(Path(path).name, "input", name, able)
            if name not in able:
                message = f"{name} cannot miss values: only numbers with fractions have one for it, NaN"
                raise UsageError(
                    "--nullable", message, f"Of {Path(path).name} that is for {', '.join(able) or 'none'}."
                )
        return tuple(
            structs.replace(field, nullable=field.datatype == "BYTES" or field.name in self.nullable)
            for field in inputs
        )
