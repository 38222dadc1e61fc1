"""The same small models as the service's tests, with pages over them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from modelmill.console.pages import Pages
from modelmill.registry.registry import Registry
from modelmill.serve.server import Service
from modelmill.signature import Signature
from modelmill.store.home import Home

sys.path.append(str(Path(__file__).parent))

spec = importlib.util.spec_from_file_location("serve_models", Path(__file__).parents[1] / "serve" / "conftest.py")
models = importlib.util.module_from_spec(spec)
spec.loader.exec_module(models)


@pytest.fixture(scope="session")
def shelf(tmp_path_factory) -> Registry:
    place = Home(tmp_path_factory.mktemp("home"))
    registry = Registry(place.database, place.blobs)
    models.publish(registry, "flowers", models.flowers())
    models.publish(registry, "flowers", models.flowers(-1))
    models.publish(registry, "pictures", models.pictures())
    models.publish(registry, "hidden", models.mixed())
    onnx, signature = models.flowers()
    hostile = Signature("classify", signature.inputs, signature.outputs, signature.classes, "<script>alert(1)</script>")
    models.publish(registry, "hostile", (onnx, hostile))
    return registry


@pytest.fixture(scope="session")
def site(shelf):
    with Service(shelf, ["flowers", "pictures", "hostile"], pages=Pages(shelf)) as service:
        yield service.url
