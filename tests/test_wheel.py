"""A wheel of the checkout installs in an empty environment, and the core alone serves and predicts."""

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CORE = ROOT / ".venv-core" / "bin"


@pytest.fixture(scope="module")
def core(tmp_path_factory):
    """The command `modelmill` of a wheel that was built just now, in an environment with the core's libraries only."""
    if not CORE.exists():
        pytest.skip("the core's environment is not there: make clients")
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    shutil.copytree(ROOT / "modelmill", source / "modelmill", ignore=shutil.ignore_patterns("__pycache__"))
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", source / "dist", source]
    subprocess.run(build, check=True, capture_output=True, timeout=300)
    (wheel,) = (source / "dist").glob("*.whl")
    install = [CORE / "python", "-m", "pip", "install", "--quiet", "--no-deps", "--force-reinstall", wheel]
    subprocess.run(install, check=True, capture_output=True, timeout=300)
    return CORE / "modelmill"


def test_the_wheel_carries_types_and_a_version(core):
    code = (
        "import modelmill, pathlib; folder = pathlib.Path(modelmill.__file__).parent;"
        "assert 'site-packages' in str(folder), folder; assert (folder / 'py.typed').exists()"
    )
    subprocess.run([CORE / "python", "-c", code], check=True, cwd="/")
    done = subprocess.run([core, "--version"], capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout.startswith("modelmill ")


def test_the_core_has_nothing_that_only_building_needs(core):
    code = "import importlib.util as u; assert not any(map(u.find_spec, ('torch', 'sklearn', 'onnx', 'optuna')))"
    subprocess.run([CORE / "python", "-c", code], check=True, cwd="/")


def test_the_core_predicts(core, in_built, tmp_path):
    rows = tmp_path / "rows.csv"
    rows.write_text(
        "sepal length (cm),sepal width (cm),petal length (cm),petal width (cm)\n5.1,3.5,1.4,0.2\n6.3,3.3,6.0,2.5\n"
    )
    done = subprocess.run(
        [core, "predict", "iris", "--input", rows, "--json"], capture_output=True, text=True, check=True, cwd="/"
    )
    assert [row["label"] for row in json.loads(done.stdout)["predictions"]] == ["setosa", "virginica"]


def test_the_core_serves(core, in_built):
    service = subprocess.Popen(
        [core, "serve", "iris", "--port", "0"], stderr=subprocess.PIPE, text=True, cwd="/", env=dict(os.environ)
    )
    try:
        url = next(line.split()[2] for line in service.stderr if "modelmill serves" in line)
        request = urllib.request.Request(
            f"{url}/predict/iris", b"[[5.1, 3.5, 1.4, 0.2]]", {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            assert json.load(response)["predictions"][0]["label"] == "setosa"
        with urllib.request.urlopen(f"{url}/models/iris", timeout=30) as response:
            assert b"iris" in response.read()
    finally:
        service.terminate()
        assert service.wait(30) == 0
        service.stderr.close()


def test_building_without_its_extra_names_the_extra(core, home):
    done = subprocess.run(
        [core, "build", "iris", "--json"], capture_output=True, text=True, check=False, cwd="/", env=dict(os.environ)
    )
    assert done.returncode == 1
    error = json.loads(done.stdout)["error"]
    assert error["code"] == "missing_extra"
    assert "modelmill[mill]" in error["try"]
