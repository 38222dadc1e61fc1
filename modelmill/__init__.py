"""modelmill: the smallest, fastest model that is good enough, searched, milled, measured and served.

>>> import modelmill
>>> report = modelmill.build("iris", budget="10s")          # doctest: +SKIP
>>> modelmill.load("iris").predict([[5.1, 3.5, 1.4, 0.2]])  # doctest: +SKIP
"""

import os
from typing import TYPE_CHECKING

from modelmill.release import __version__

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
# From 1.29 on onnxruntime tells its maker of every process and every session, hashes of their weights among it, unless
# this is said before it is imported.

if TYPE_CHECKING:
    from modelmill.api import build, compress_model, import_model, load, publish_pipeline
    from modelmill.client import Client
    from modelmill.errors import MillError
    from modelmill.loaded import Loaded

__all__ = [
    "Client",
    "Loaded",
    "MillError",
    "__version__",
    "build",
    "compress_model",
    "import_model",
    "load",
    "publish_pipeline",
]

_HOMES = {
    **dict.fromkeys(("build", "compress_model", "import_model", "load", "publish_pipeline"), "api"),
    "Loaded": "loaded",
    "Client": "client",
    "MillError": "errors",
}


def __getattr__(name: str) -> object:
    """The public names, imported when they are first used: `import modelmill` alone stays quick."""
    if name not in _HOMES:
        raise AttributeError(f"module 'modelmill' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"modelmill.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
