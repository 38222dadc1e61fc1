"""Tells by its first bytes what format a file is in, and the way in for those that are not read here."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import NamedTuple

from modelmill.errors import ModelError

TORCH = "Export it: torch.onnx.export(module, args, 'model.onnx', dynamo=True); or modelmill.build(data, model=module)"
SKLEARN = "Convert it: skl2onnx.to_onnx(estimator, x[:1]); or modelmill.build(data, model=estimator)"
KERAS = "Export it: model.export('model.onnx', format='onnx')"
TREES = "Convert it with onnxmltools: convert_xgboost or convert_lightgbm"
TF = "Convert it: python -m tf2onnx.convert"


class Format(NamedTuple):
    """A format that is not read here."""

    name: str
    way: str


TORCH_FILE = Format("a PyTorch file, which is a pickle and could run anything", TORCH)
PICKLE = Format("a pickle, which could run anything", f"{SKLEARN}. {TORCH}")
KERAS_FILE = Format("a Keras file", KERAS)
SAVED_MODEL = Format("a TensorFlow SavedModel", f"{TF} --saved-model FOLDER --output model.onnx")
TFLITE = Format("a TensorFlow Lite file", f"{TF} --tflite model.tflite --output model.onnx")
SAFETENSORS = Format("safetensors: weights without the network that they belong to", f"Load them into it. {TORCH}")
PMML = Format("PMML", "Export the model to ONNX with the tool that made it")
MOJO = Format("an H2O MOJO", "Train it with XGBoost or scikit-learn, and convert that to ONNX")
TREES_FILE = Format("an XGBoost or LightGBM file", TREES)
GGUF = Format("GGUF: quantized weights for llama.cpp", "Export the original model to ONNX")
CORE_ML = Format("a Core ML file", "Export the original model to ONNX")
PROGRAM = Format(
    "an exported PyTorch program",
    "Convert it: torch.onnx.export(torch.export.load('model.pt2'), f='model.onnx', dynamo=True)",
)

SUFFIXES = {
    **dict.fromkeys((".pt", ".pth", ".ckpt", ".bin"), TORCH_FILE),
    **dict.fromkeys((".pkl", ".pickle", ".joblib"), PICKLE),
    **dict.fromkeys((".h5", ".hdf5", ".keras"), KERAS_FILE),
    **dict.fromkeys((".ubj", ".xgb", ".lgb"), TREES_FILE),
    ".pt2": PROGRAM,
    ".skops": Format("a skops file", SKLEARN),
    ".pb": SAVED_MODEL,
    ".tflite": TFLITE,
    ".pmml": PMML,
    ".safetensors": SAFETENSORS,
    ".gguf": GGUF,
    ".mlmodel": CORE_ML,
    ".mojo": MOJO,
}
"""By the end of the name, where the first bytes do not tell."""


def refuse_others(path: Path) -> None:
    """Raise ModelError, which names format and way, for a file or folder that is known to be no ONNX file."""
    found = format_of(path)
    if found is not None:
        raise ModelError(path.name, f"is {found.name}; models come in as ONNX files", f"{found.way}.")


def format_of(path: Path) -> Format | None:
    """What else than ONNX the path holds; None where it may be ONNX.

    >>> format_of(Path("model.onnx"))
    """
    if path.is_dir():
        if (path / "saved_model.pb").exists():
            return SAVED_MODEL
        return Format("a folder", "Name the .onnx file in it")
    if not path.is_file():
        return None
    with path.open("rb") as file:
        head = file.read(64)
    return _by_content(path, head) or SUFFIXES.get(path.suffix.lower())


def _by_content(path: Path, head: bytes) -> Format | None:
    if head.startswith(b"PK\x03\x04"):
        return _zipped(path)
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return PICKLE
    if head.startswith(b"\x89HDF\r\n"):
        return KERAS_FILE
    if head[8:10] == b'{"' and int.from_bytes(head[:8], "little") < 2**40:
        return SAFETENSORS
    if head.startswith(b"GGUF"):
        return GGUF
    if head[4:8] == b"TFL3":
        return TFLITE
    if head.lstrip(b"\xef\xbb\xbf \r\n\t").startswith((b"<?xml", b"<PMML")):
        return PMML
    if head.startswith(b"tree\n"):
        return TREES_FILE
    if head.startswith((b'{"learner"', b"{L")):
        return TREES_FILE
    return None


def _zipped(path: Path) -> Format:
    """What a zip archive holds, by the names in it; nothing is unpacked."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError):
        names = []
    if any(name.endswith("data.pkl") for name in names):
        return TORCH_FILE
    if "model.ini" in names:
        return MOJO
    if "config.json" in names and "metadata.json" in names:
        return KERAS_FILE
    known = SUFFIXES.get(path.suffix.lower())
    return known or Format("a zip archive", "Unpack it, and name the .onnx file in it")
