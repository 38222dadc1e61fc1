"""MLflow's scoring server, `mlflow models serve`, as its documentation has it. Usage: MODEL PORT."""

import os
import sys
import tempfile
from pathlib import Path

import mlflow.onnx
import onnx

if __name__ == "__main__":
    model, port = sys.argv[1:3]
    folder = Path(tempfile.mkdtemp(dir=Path.cwd())) / "model"
    options = {"intra_op_num_threads": 1}
    mlflow.onnx.save_model(onnx.load(model), folder, onnx_session_options=options)
    command = str(Path(sys.executable).with_name("mlflow"))
    given = ["models", "serve", "-m", str(folder), "--env-manager", "local", "--host", "127.0.0.1", "--port", port]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    os.execve(command, [command, *given, "--workers", "1"], {**os.environ, "PATH": path})
