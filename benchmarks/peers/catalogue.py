"""The catalogue: how each peer is installed and started, where it takes which format, and what its readers should know.

To add a peer, write its server in `servers/` and an entry here. A server has one worker, and serves the graph at a path
on a port of 127.0.0.1 until SIGINT; the two ports after that are its own too, and gRPC is on the first of them.
"""

import sys
from collections.abc import Mapping
from typing import Final, NamedTuple

from benchmarks.load.formats import JSON, RAW, Route
from benchmarks.load.tensors import MODEL
from benchmarks.peers.environment import BUN
from benchmarks.peers.formats import BASE64, KSERVE, OPEN_INFERENCE
from benchmarks.report.results import OURS


class Peer(NamedTuple):
    """A server for the graph."""

    name: str
    notes: str
    """Its configuration, and limits of its protocol: one or two sentences for the table."""
    arguments: str
    """The arguments of its interpreter, with {model}, {port} and {grpc_port}."""
    packages: tuple[str, ...] = ()
    """Pinned packages for pip or npm; a peer without packages runs in this environment."""
    interpreter: str = sys.executable
    """The Python of its environment, or BUN."""
    environment: Mapping[str, str] = {}
    """Its environment variables, with {model}."""
    routes: Mapping[str, Route] = {}
    """Its routes for single events, batches in JSON, and batches in its fastest binary format."""
    speaks_grpc: bool = False
    """Whether it supports calls of the Open Inference Protocol."""


def routes(single: str, json: str, raw: str) -> dict[str, Route]:
    """Return the routes of a server that supports the formats of our service."""
    return {"single": Route(JSON, single), "json": Route(JSON, json), "binary": Route(RAW, raw)}


def server(module: str, arguments: str = "{model} {port}") -> str:
    """Return the arguments to run one of our files in `servers/`."""
    return f"-m benchmarks.peers.servers.{module} {arguments}"


ONNX: Final = ("onnxruntime==1.31.1", "numpy==2.4.6")
BARE: Final = ("msgspec==0.22.0", *ONNX)
BARE_ROUTES: Final = routes("/score", "/score/batch", "/score/raw")
HTTP: Final = ("uvloop==0.23.0", "httptools==0.9.0")
FASTAPI: Final = ("fastapi==0.165.0", "pydantic==2.14.3", "uvicorn==0.54.0", *HTTP)
LITSERVE: Final = ("litserve==0.2.19", *HTTP, *ONNX)
LITSERVE_ROUTES: Final = {**routes("/score", "/score", "/score"), "binary": Route(BASE64, "/score")}

PEERS: Final = {
    OURS: Peer(
        "this service",
        "Its defaults, and gRPC.",
        f"-m service --model {{model}} --port {{port}} --workers 1 --grpc-port {{grpc_port}} --served-name {MODEL}",
        routes=routes("/score", "/score/batch", "/score/batch"),
        speaks_grpc=True,
    ),
    "fastapi_onnx": Peer(
        "FastAPI + ONNX Runtime",
        "uvicorn with uvloop and httptools, coroutines for routes, pydantic models in and out; raw float32 by hand.",
        server("fastapi_server", "onnx {model} {port}"),
        packages=(*FASTAPI, *ONNX),
        routes=BARE_ROUTES,
    ),
    "fastapi_torch": Peer(
        "FastAPI + torch",
        "The same application; torch runs eagerly, in inference mode, on one thread.",
        server("fastapi_server", "torch {model} {port}"),
        packages=(
            *FASTAPI,
            *("torch==2.13.0", "onnx==1.23.2", "numpy==2.4.6"),
            *("scikit-learn==1.9.1", "h5py==3.16.0", "hdf5plugin==7.1.0", "msgspec==0.22.0"),  # of training.detectors
        ),
        routes=BARE_ROUTES,
    ),
    "granian": Peer(
        "Granian + ONNX Runtime",
        "An ASGI application without a framework, JSON by msgspec; one worker with one thread of its runtime, uvloop, "
        "HTTP/1.1 alone.",
        "-m granian benchmarks.peers.servers.granian_server:create --factory --interface asginl --loop uvloop --http 1 "
        "--no-ws --workers 1 --runtime-threads 1 --host 127.0.0.1 --port {port}",
        packages=("granian==2.8.9", "uvloop==0.23.0", *BARE),
        environment={"PEER_MODEL": "{model}"},
        routes=BARE_ROUTES,
    ),
    "fastpysgi": Peer(
        "FastPySGI + ONNX Runtime",
        "A WSGI application without a framework, JSON by msgspec, TCP_NODELAY.",
        server("fastpysgi_server"),
        packages=("fastpysgi==0.6", *BARE),
        routes=BARE_ROUTES,
    ),
    "bun": Peer(
        "Bun + ONNX Runtime",
        "Bun.serve and onnxruntime-node; single events of one iteration of the loop are scored in one run.",
        "benchmarks/peers/servers/bun_server.ts {model} {port}",
        packages=("bun==1.4.5", "onnxruntime-node==1.30.0"),
        interpreter=BUN,
        environment={"NODE_ENV": "production", "NODE_PATH": "build/peers/bun/node_modules"},
        routes=BARE_ROUTES,
    ),
    "mosec": Peer(
        "Mosec",
        "A worker process for each of the three routes behind one HTTP process, JSON by msgspec. Single events with "
        "max_batch_size=32, as many as there are connections, and at most 1 ms of waiting for them.",
        server("mosec_server", "--address 127.0.0.1 --port {port} --log-level warning"),
        packages=("mosec==0.9.8", *BARE),
        environment={"PEER_MODEL": "{model}"},
        routes=BARE_ROUTES,
    ),
    "kserve": Peer(
        "KServe",
        "Its Python server with a model of ours, uvloop, no log of latencies. Over HTTP, version 1 of its protocol: a "
        "single event is a batch of one. Its responses with binary tensors have no Content-Length, which our client "
        "needs: raw float32 goes through version 1 too, which passes on bodies that are not JSON.",
        server(
            "kserve_server",
            "--http_port {port} --grpc_port {grpc_port} --configure_logging false --enable_latency_logging false "
            f"{MODEL} {{model}}",
        ),
        packages=("kserve==0.21.0", *HTTP, *ONNX),
        routes=KSERVE,
        speaks_grpc=True,
    ),
    "litserve": Peer(
        "LitServe",
        "One worker process behind one HTTP process, with queues of multiprocessing between them: fast_queue=True, for "
        "ZeroMQ, has no effect in this version. A request's body is read as JSON before the API sees it: binary is "
        "float32 as base64 inside JSON.",
        server("litserve_server"),
        packages=LITSERVE,
        routes=LITSERVE_ROUTES,
    ),
    "litserve_batching": Peer(
        "LitServe, batching",
        "The same, with max_batch_size=32, as many as there are connections, and at most 1 ms of waiting for them.",
        server("litserve_server", "--batching {model} {port}"),
        packages=LITSERVE,
        routes=LITSERVE_ROUTES,
    ),
    "bentoml": Peer(
        "BentoML",
        "One worker, uvloop, coroutines for APIs, no access log; raw float32 through a mounted ASGI application.",
        "-m bentoml serve benchmarks.peers.servers.bentoml_server:Scorer --host 127.0.0.1 --port {port}",
        packages=("bentoml==1.4.39", *HTTP, *ONNX),
        environment={"PEER_MODEL": "{model}", "BENTOML_DO_NOT_TRACK": "True"},
        routes=routes("/score", "/score/batch", "/raw/score"),
    ),
    "mlserver": Peer(
        "MLServer",
        "The model in the server's own process (parallel_workers=0), debug off. It speaks the Open Inference Protocol: "
        "tensors in JSON, a single event as a batch of one. Its HTTP side has no binary tensors: raw float32 goes "
        "through a custom handler.",
        server("mlserver_server", f"{MODEL} {{model}} {{port}}"),
        packages=("mlserver==1.7.1", *ONNX),
        routes={**OPEN_INFERENCE, "binary": Route(RAW, "/raw")},
        speaks_grpc=True,
    ),
    "ray_serve": Peer(
        "Ray Serve",
        "One replica, throughput-optimised mode, HAProxy as ingress; ingress, replica and controller share the core.",
        server("ray_server"),
        packages=("ray[serve]==2.60.0", *HTTP, *ONNX),
        # Its guide to high throughput sets the first two.
        environment={
            "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
            "RAY_SERVE_ENABLE_HA_PROXY": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
        },
        routes=routes("/score", "/score", "/score"),
    ),
    "pytriton": Peer(
        "Triton (PyTriton)",
        "Triton's Python backend calls ONNX Runtime in Python; PyTriton ships no ONNX backend. Its dynamic batcher "
        "puts single events together without waiting. Tensors in JSON or, with the protocol's extension, in binary.",
        server("pytriton_server", f"{MODEL} {{model}} {{port}}"),
        packages=("nvidia-pytriton==0.7.0", "onnxruntime==1.31.1", "numpy==1.26.4"),
        interpreter="/usr/bin/python3",  # Triton's Python backend needs the shared library of the system's Python
        routes=OPEN_INFERENCE,
        speaks_grpc=True,
    ),
}
