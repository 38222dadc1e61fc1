"""The prepared features of a data set: what a body sees, worked out once and kept while it is used."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from threading import Lock

import msgspec
import numpy as np

from modelmill.contracts import Array
from modelmill.dataset import Dataset
from modelmill.fragment import Fragment
from modelmill.graph.export import FEATURES
from modelmill.graph.preparation import write
from modelmill.model import Part
from modelmill.runtime.calls import answers
from modelmill.runtime.rows import from_dataset
from modelmill.runtime.session import BATCH_ROWS, Session
from modelmill.signature import Signature

KEPT = 8
"""Feature arrays that are kept: training, validation and test rows of a few preparations."""

KEPT_BYTES = 256_000_000
"""What they may take together; the newest is kept whatever its size."""

_kept: OrderedDict[tuple[str, str], Array] = OrderedDict()
_lock = Lock()


def features(part: Part, signature: Signature, dataset: Dataset) -> Array:
    """What the part's body sees of the rows: (rows, features) or (rows, channels, height, width) float32, read-only.

    Raises ModelError where the body is a graph, which prepares within itself.
    """
    key = (digest(part.prepare), dataset.digest)
    with _lock:
        if key in _kept:
            _kept.move_to_end(key)
            return _kept[key]
    found = _prepared(part.prepare, signature, dataset)
    found.flags.writeable = False
    with _lock:
        _kept[key] = found
        while len(_kept) > 1 and (len(_kept) > KEPT or sum(array.nbytes for array in _kept.values()) > KEPT_BYTES):
            _kept.popitem(last=False)
    return found


def digest(fragment: Fragment) -> str:
    """SHA-256 of operations and constants: equal fragments have equal digests."""
    ops = [(op.type, op.inputs, op.outputs, sorted(op.attributes.items()), op.domain) for op in fragment.ops]
    total = hashlib.sha256(msgspec.json.encode(ops, enc_hook=_plain))
    for name, value in sorted(fragment.constants.items()):
        total.update(f"{name}{value.dtype}{value.shape}".encode())
        total.update(msgspec.json.encode(value.tolist()) if value.dtype == object else value.tobytes())
    return total.hexdigest()


def _plain(value: object) -> object:
    """What the JSON encoder does not know: numpy's numbers and arrays among the attributes."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"an attribute of type {type(value)}")


def _prepared(fragment: Fragment, signature: Signature, dataset: Dataset) -> Array:
    session = Session(write(fragment, signature.inputs))
    if dataset.rows == 0:
        return session.run(from_dataset(dataset))[FEATURES]
    return answers(session, dataset, BATCH_ROWS)[FEATURES]
