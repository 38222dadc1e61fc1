"""Images in the IDX format of MNIST: a folder of files by their standard names."""

from __future__ import annotations

from pathlib import Path

from modelmill.contracts import Source
from modelmill.data.arrays import dataset, refuse_columns, with_test
from modelmill.data.files import existing
from modelmill.data.idx import labels_of, pair, read_idx
from modelmill.dataset import Dataset
from modelmill.errors import SourceError, UnknownName


class Idx(Source):
    """Images and labels in IDX files by their standard names, `.gz` or not; `t10k` is the stated test set.

    Reads a folder with `train-images-idx3-ubyte` and `train-labels-idx1-ubyte`, or one file of images with its labels
    beside it. Pixels stay raw.
    """

    path: str
    """The folder, or the file of images."""

    def __call__(self) -> Dataset:
        """Read the images. Errors name the file."""
        refuse_columns(self, "an IDX set")
        if self.target not in ("", "label"):
            raise UnknownName.among("data.idx", "target", self.target, ["label"])
        path = existing(self.path)
        files = _training(path)
        data = _read(files, path.name)
        if self.test:
            where = existing(self.test)
            return with_test(data, _read(_test(where) or _training(where), where.name))
        beside = _test(path)
        return data if beside is None else with_test(data, _read(beside, f"{path.name} (test)"))


def _test(path: Path) -> tuple[Path, Path] | None:
    return pair(path, "t10k") if path.is_dir() else None


def _training(path: Path) -> tuple[Path, Path]:
    if not path.is_dir():
        return path, labels_of(path)
    found = pair(path, "train")
    if found is None:
        hint = "Expected train-images-idx3-ubyte and train-labels-idx1-ubyte, or both with .gz."
        raise SourceError(str(path), "holds no IDX files by their standard names", hint)
    return found


def _read(files: tuple[Path, Path], where: str) -> Dataset:
    return dataset(read_idx(files[0]), read_idx(files[1]), where, "label")
