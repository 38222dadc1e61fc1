"""Servers that can be told to be wrong, and the one that is ours."""

from __future__ import annotations

import importlib.util
import socket
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn

HERE = Path(__file__).parent


def module(path):
    spec = importlib.util.spec_from_file_location(f"conform_{path.stem}", path)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@contextmanager
def listening(app):
    """The URL of a server of which this is the callable."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off", ws="none"))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="session")
def faulty():
    """A server that can be told to be wrong, and its URL."""
    app = module(HERE / "faulty.py").Faulty()
    with listening(app) as url:
        yield app, url


@pytest.fixture(scope="session")
def offering():
    """One that has extensions, too."""
    app = module(HERE / "faulty.py").Offering()
    with listening(app) as url:
        yield app, url


@pytest.fixture(scope="session")
def both():
    """One that speaks gRPC, too, with more extensions: its callable, its URL, its address."""
    made, rpc = module(HERE / "faulty.py"), module(HERE / "faulty_rpc.py")

    class Listing(made.Offering):
        def server(self):
            listed = [*super().server()["extensions"], "model_configuration", "model_repository", "schedule_policy"]
            return {**super().server(), "extensions": listed}

    app = Listing()
    with listening(app) as url, rpc.listening(app) as address:
        yield app, url, address


@pytest.fixture(scope="session")
def unable():
    """One whose model takes FP16, and that answers nobody; its callable can list that it takes bytes."""
    made = module(HERE / "faulty.py")

    class Unable(made.Faulty):
        lists_bytes = False

        def server(self):
            return {**super().server(), "extensions": ["binary_tensor_data"] * self.lists_bytes}

        def metadata(self):
            return {**made.MODEL, "inputs": [{"name": "a", "datatype": "FP16", "shape": [-1, 2]}]}

        def infer(self, body):
            raise made.Refused("boom", 500)

    app = Unable()
    with listening(app) as url:
        yield app, url


@pytest.fixture(scope="session")
def made():
    """What makes the models of our service, and the authorities of its certificates."""
    return module(HERE.parent / "serve" / "conftest.py"), module(HERE.parent / "serve" / "access" / "conftest.py")


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    from modelmill.store.home import Home

    return Home(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="session")
def registry(made, place):
    """A registry with models of every kind of input."""
    from modelmill.registry.registry import Registry

    models, _ = made
    registry = Registry(place.database, place.blobs)
    for name in ("flowers", "pictures", "mixed"):
        models.publish(registry, name, getattr(models, name)())
    return registry


@pytest.fixture(scope="session")
def service(registry):
    """Our service, with those models."""
    from modelmill.serve.server import Service

    with Service(registry, grpc_port=0) as service:
        yield service
