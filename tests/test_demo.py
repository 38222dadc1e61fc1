"""The demo's own questions are answered by a service that serves digits."""

import importlib.util
import json
import shlex
import subprocess
from pathlib import Path

from modelmill import api
from modelmill.mill import build
from modelmill.serve.server import Service

DEMO = Path(__file__).parents[1] / "examples" / "demo.py"
SPEC = {
    "name": "digits",
    "data": {"method": "builtin", "name": "digits"},
    "goal": {"maximize": "accuracy", "budget": "1 trials"},
    "arch": {"method": "mlp"},
    "train": {"method": "adam", "epochs": 8},
    "compress": [{"method": "quantize.dynamic"}],
}


def test_the_demo_asks_in_both_protocols_and_its_curl_line_works(home, capsys):
    loaded = importlib.util.spec_from_file_location("demo", DEMO)
    demo = importlib.util.module_from_spec(loaded)
    loaded.loader.exec_module(demo)
    list(build(SPEC, api.home()))
    with Service(api.registry()) as service:
        demo.ask(service.url)
        said = capsys.readouterr().out
        curl = next(line for line in said.splitlines() if line.strip().startswith("curl"))
        done = subprocess.run(shlex.split(curl), capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["predictions"][0]["label"] == 7
    assert '"data": [7]' in said
    assert f"{service.url}/models/digits" in said
