"""MLflow's scoring server for a model of its ONNX flavour, which is saved where it is not there. Usage: MODEL PORT."""

import os
import sys
from pathlib import Path

os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "UVICORN_ACCESS_LOG": "false"}
MODEL, PORT = sys.argv[1:3]
TOOLS = Path(sys.executable).parent
SAVED = Path.cwd() / "mlflow"


def save():
    import mlflow.onnx
    import numpy as np
    import onnx
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    model = onnx.load(MODEL)
    rows, *shape = (axis.dim_value or -1 for axis in model.graph.input[0].type.tensor_type.shape.dim)
    mlflow.onnx.save_model(
        model,
        str(SAVED),
        signature=ModelSignature(Schema([TensorSpec(np.dtype(np.float32), (rows, *shape), "x")])),
        pip_requirements=["onnxruntime"],
        onnx_execution_providers=["CPUExecutionProvider"],
        onnx_session_options={"intra_op_num_threads": 1},
    )


if not SAVED.exists():
    save()
os.environ["PATH"] = f"{TOOLS}:{os.environ['PATH']}"
command = [str(TOOLS / "mlflow"), "models", "serve", "--model-uri", str(SAVED), "--env-manager", "local"]
os.execv(command[0], [*command, "--host", "127.0.0.1", "--port", PORT])
