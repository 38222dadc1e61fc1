"""Runs an ONNX file on onnxruntime: the one place that makes sessions, so that all of them have the same options."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as state

from modelmill.contracts import Array
from modelmill.errors import ModelError, OutOfMemory
from modelmill.graph.decode import axes_of

BATCH_ROWS = 8192
"""Rows that run at once where a whole data set is put through: bounds the memory of what lies between."""

FAILURES: tuple[type[BaseException], ...] = (
    state.Fail,
    state.InvalidArgument,
    state.NoSuchFile,
    state.NoModel,
    state.EngineError,
    state.RuntimeException,
    state.InvalidProtobuf,
    state.ModelLoaded,
    state.NotImplemented,
    state.InvalidGraph,
    state.EPFail,
    state.DeviceReset,
    state.NotFound,
    state.ModelLoadCanceled,
    state.ModelRequiresCompilation,
    MemoryError,
    RuntimeError,
    ValueError,
    TypeError,
)
"""What onnxruntime raises; its own errors share no root."""


class Stop:
    """Ends the run that it was given to, from any thread; the session stays as good as it was."""

    def __init__(self) -> None:
        self.options = onnxruntime.RunOptions()

    def now(self) -> None:
        """End the run before its next operation."""
        self.options.terminate = True

    @property
    def said(self) -> bool:
        """Whether the run was told to end."""
        return bool(self.options.terminate)


class Session:
    """A loaded model that runs: it lives as long as it is used, and threads may share it.

    source: the bytes of an ONNX file, or its path. threads: of one call. spinning: whether idle threads burn a core
    while they wait for the next call. lean: weights stay as they are and where they are, in a file beside the source
    for one; that saves memory and the time to load, and costs time in every run. made: the graph is an optimised one,
    and its weights may lie packed beside it. chosen: options in place of these.
    """

    def __init__(
        self,
        source: bytes | str | Path,
        threads: int = 1,
        spinning: bool = False,
        lean: bool = False,
        made: bool = False,
        chosen: onnxruntime.SessionOptions | None = None,
    ) -> None:
        model = source if isinstance(source, bytes) else str(source)
        chosen = options(threads, spinning) if chosen is None else chosen
        if lean or made:
            chosen.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        if lean:
            chosen.add_session_config_entry("session.disable_prepacking", "1")
        try:
            self._session = onnxruntime.InferenceSession(model, chosen, providers=["CPUExecutionProvider"])
        except FAILURES as error:
            where = "the model" if isinstance(source, bytes) else str(source)
            raise _refusal(where, _first_line(error)) from error
        self._session._model_bytes = None  # it keeps a copy of the file, for as long as it lives, to be made anew
        self.inputs = [value.name for value in self._session.get_inputs()]
        self.outputs = [value.name for value in self._session.get_outputs()]
        self.shapes = {value.name: tuple(map(_size, value.shape)) for value in self._session.get_inputs()}
        """The sizes of every input; -1 is any."""
        values = (*self._session.get_inputs(), *self._session.get_outputs())
        self.axes = axes_of({value.name: value.shape for value in values})

    def run(
        self, columns: Mapping[str, Array], outputs: Sequence[str] | None = None, stop: Stop | None = None
    ) -> dict[str, Array]:
        """The outputs by name, for columns by name; all outputs where none are named.

        Raises ModelError where it cannot be run, and when `stop` ended it; OutOfMemory where memory does not suffice.
        """
        names = self.outputs if outputs is None else list(outputs)
        try:
            values = self._session.run(names, columns, None if stop is None else stop.options)
            return dict(zip(names, values, strict=True))
        except FAILURES as error:
            said = _first_line(error)
            if isinstance(error, MemoryError) or NO_ROOM.search(said):
                raise OutOfMemory("the model", "needs more memory for this run than there is", "") from error
            raise ModelError("the model", f"cannot be run: {said}", "") from error

    def shrink(self, columns: Mapping[str, Array]) -> None:
        """Let go of the memory that earlier runs needed, and a run of these columns does not: it is kept otherwise.

        Raises ModelError where they cannot be run.
        """
        stop = Stop()
        stop.options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        self.run(columns, None, stop)

    def run_batches(
        self, columns: Mapping[str, Array], outputs: Sequence[str] | None = None, batch_rows: int = BATCH_ROWS
    ) -> dict[str, Array]:
        """As `run`, a batch of rows at a time, where the rows are first in every input and output."""
        rows = len(next(iter(columns.values())))
        if rows <= batch_rows:
            return self.run(columns, outputs)
        found = [
            self.run({name: column[start : start + batch_rows] for name, column in columns.items()}, outputs)
            for start in range(0, rows, batch_rows)
        ]
        return {name: np.concatenate([batch[name] for batch in found]) for name in found[0]}


def _size(axis: int | str | None) -> int:
    return axis if isinstance(axis, int) and axis > 0 else -1


def options(threads: int = 1, spinning: bool = False) -> onnxruntime.SessionOptions:
    """The session options that everything here runs with."""
    chosen = onnxruntime.SessionOptions()
    chosen.intra_op_num_threads = threads
    chosen.inter_op_num_threads = 1
    # 4 is fatal: what goes wrong comes as an exception, and must not be printed beside.
    chosen.log_severity_level = 4
    chosen.add_session_config_entry("session.intra_op.allow_spinning", "1" if spinning else "0")
    chosen.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return chosen


PLACE = re.compile(r"/onnxruntime_src/\S+ [^(]*\([^)]*\) ?")
"""The file, line and function of its source that onnxruntime puts before what it says."""


NO_ROOM = re.compile(r"bad_alloc|bad allocation|Failed to allocate memory")
"""What is said where memory does not suffice."""


UNKNOWN = re.compile(r"Could not find an implementation for (\w+)\((\d+)\)")


def _refusal(where: str, said: str) -> ModelError:
    """Why a file cannot be loaded; in other words where its operators are newer than the runtime."""
    if (found := UNKNOWN.search(said)) is None:
        return ModelError(where, f"cannot be loaded: {said}", "Is it an ONNX file?")
    what = f"{found[1]} of opset {found[2]} for these types"
    message = f"cannot be loaded: onnxruntime {onnxruntime.__version__} has no {what}"
    hint = f"Export the model with an opset below {found[2]} or in other types, or update onnxruntime."
    return ModelError(where, message, hint)


def _first_line(error: BaseException) -> str:
    return PLACE.sub("", str(error).strip().partition("\n")[0])[:300]
