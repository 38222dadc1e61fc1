"""Asks our service with the clients of KServe and MLServer, each in an environment of its own.

    python bench/conform/clients.py [--only kserve]

KServe: InferenceRESTClient and InferenceGRPCClient, readiness, JSON, binary tensors, gRPC. MLServer: its own types and
its gRPC stubs, the repository service, and `mlserver infer`, its batch client. A client whose rows are there is not run
again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from setting import Row, Running, interpreter, keep, kept, serving

NAME = "clients"

KSERVE = """
import asyncio, json, sys
import numpy as np
from kserve import InferenceRESTClient, InferenceGRPCClient, InferRequest, InferInput, RESTConfig, InferOutput
from kserve.protocol.infer_type import RequestedOutput
http, grpc = sys.argv[1:]
base = f"http://{http}"
a, b = np.arange(16, dtype=np.int32).reshape(1, 16), np.ones((1, 16), np.int32)

def request(binary):
    inputs = [InferInput(name, [1, 16], "INT32") for name in ("INPUT0", "INPUT1")]
    for tensor, values in zip(inputs, (a, b)):
        tensor.set_data_from_numpy(values, binary_data=binary)
    return InferRequest("simple", inputs, request_id="seven",
                        request_outputs=[RequestedOutput(n, {"binary_data": binary}) for n in ("OUTPUT0", "OUTPUT1")])

def check(answer):
    assert answer.id == "seven" and answer.model_name == "simple", answer
    assert (answer.outputs[0].as_numpy() == a + b).all() and (answer.outputs[1].as_numpy() == a - b).all()

async def main():
    told = {}
    async def step(name, work):
        try:
            await work
            told[name] = "ok"
        except Exception as error:
            told[name] = f"{type(error).__name__}: {error}"[:300]
    rest = InferenceRESTClient(RESTConfig(protocol="v2"))
    async def truth(work):
        found = await work
        assert found is True, found
    await step("rest live", truth(rest.is_server_live(base)))
    await step("rest ready", truth(rest.is_server_ready(base)))
    await step("rest model ready", truth(rest.is_model_ready(base, "simple")))
    async def infer(binary):
        check(await rest.infer(base, request(binary), model_name="simple"))
    await step("rest infer json", infer(False))
    await step("rest infer binary", infer(True))
    client = InferenceGRPCClient(grpc)
    await step("grpc live", truth(client.is_server_live()))
    await step("grpc ready", truth(client.is_server_ready()))
    await step("grpc model ready", truth(client.is_model_ready("simple")))
    async def rpc(binary):
        check(await client.infer(request(binary)))
    await step("grpc infer typed", rpc(False))
    await step("grpc infer raw", rpc(True))
    await client.close(); await rest.close()
    print(json.dumps(told))
asyncio.run(main())
"""

MLSERVER = """
import json, sys
import urllib.request
import grpc, numpy as np
from mlserver import types
from mlserver.codecs import NumpyCodec
from mlserver.grpc import converters, dataplane_pb2 as pb, dataplane_pb2_grpc as stubs
from mlserver.grpc import model_repository_pb2 as repo, model_repository_pb2_grpc as repo_stubs
http, rpc = sys.argv[1:]
base = f"http://{http}"
a, b = np.arange(16, dtype=np.int32).reshape(1, 16), np.ones((1, 16), np.int32)
inputs = [NumpyCodec.encode_input("INPUT0", a), NumpyCodec.encode_input("INPUT1", b)]
asked = types.InferenceRequest(id="seven", inputs=inputs)
told = {}

def ask(path, body=None):
    data = None if body is None else body.encode()
    request = urllib.request.Request(f"{base}/{path}", data, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)

def step(name, work):
    try:
        work()
        told[name] = "ok"
    except Exception as error:
        told[name] = f"{type(error).__name__}: {error}"[:300]

def check(answer):
    assert answer.id == "seven" and answer.model_name == "simple", answer
    assert (NumpyCodec.decode_output(answer.outputs[0]) == a + b).all()

def rest():
    answer = ask("v2/models/simple/infer", asked.model_dump_json(exclude_none=True))
    check(types.InferenceResponse.model_validate(answer))

def metadata():
    types.MetadataServerResponse.model_validate(ask("v2"))
    types.MetadataModelResponse.model_validate(ask("v2/models/simple"))

def index():
    found = types.RepositoryIndexResponse.model_validate(ask("v2/repository/index", "{}"))
    assert "simple" in [entry.name for entry in found.root]

channel = grpc.insecure_channel(rpc)
service = stubs.GRPCInferenceServiceStub(channel)
repository = repo_stubs.ModelRepositoryServiceStub(channel)

def infer(raw):
    message = converters.ModelInferRequestConverter.from_types(asked, model_name="simple", use_raw=raw)
    check(converters.ModelInferResponseConverter.to_types(service.ModelInfer(message)))

def ready():
    assert service.ServerReady(pb.ServerReadyRequest()).ready
    assert service.ModelReady(pb.ModelReadyRequest(name="simple")).ready

def repositories():
    found = repository.RepositoryIndex(repo.RepositoryIndexRequest())
    assert "simple" in [entry.name for entry in found.models]
    repository.RepositoryModelUnload(repo.RepositoryModelUnloadRequest(model_name="simple_int8"))
    repository.RepositoryModelLoad(repo.RepositoryModelLoadRequest(model_name="simple_int8"))
    assert service.ModelReady(pb.ModelReadyRequest(name="simple_int8")).ready

step("rest infer", rest)
step("rest metadata", metadata)
step("rest index", index)
step("grpc ready", ready)
step("grpc infer typed", lambda: infer(False))
step("grpc infer raw", lambda: infer(True))
step("grpc repository", repositories)
print(json.dumps(told))
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", choices=["", *CLIENTS])
    chosen = parser.parse_args()
    wanted = {chosen.only} if chosen.only else set(CLIENTS)
    left = sorted(wanted - {row["client"] for row in kept(NAME)})
    if left:
        with serving() as service:
            for client in left:
                keep(NAME, CLIENTS[client](service))
    rows = [row for row in kept(NAME) if row["client"] in wanted]
    for row in rows:
        print(f"{row['client']:<15} {row['step']:<20} {row['came']}")
    return 0 if all(row["came"] == "ok" for row in rows) else 1


def asked(name: str, script: str, service: Running) -> list[Row]:
    """The steps of one client, and what came of each."""
    command = [str(interpreter(name)), "-c", script, service.http, service.grpc]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        return [{"client": name, "step": "all", "came": done.stderr.strip()[-300:]}]
    told = json.loads(done.stdout.strip().rpartition("\n")[2])
    return [{"client": name, "step": step, "came": came} for step, came in told.items()]


def batch(service: Running) -> list[Row]:
    """`mlserver infer`: a thousand requests from a file, over the one wire that it knows."""
    tensor = {"shape": [1, 16], "datatype": "INT32"}
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "in.jsonl"
        inputs = [{"name": f"INPUT{i}", "data": [list(range(16))], **tensor} for i in (0, 1)]
        source.write_text((json.dumps({"inputs": inputs}) + "\n") * 1000)
        out = Path(folder) / "out.jsonl"
        command = [str(interpreter("mlserver").parent / "mlserver"), "infer", "-u", service.http, "-m", "simple"]
        command += ["-i", str(source), "-o", str(out), "--transport", "rest", "--workers", "4"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        lines = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    good = sum(bool(line.get("outputs")) for line in lines)
    came = "ok" if good == 1000 else f"{good} of 1000 answered: {done.stderr.strip()[-200:]}"
    return [{"client": "mlserver infer", "step": "rest, 1,000 requests", "came": came}]


CLIENTS = {
    "kserve": partial(asked, "kserve", KSERVE),
    "mlserver": partial(asked, "mlserver", MLSERVER),
    "mlserver infer": batch,
}
"""Name: what asks a service with it, and gives rows."""


if __name__ == "__main__":
    sys.exit(main())
