"""A client in C++ that calls as CMS's does, with the stubs that protoc makes of the shipped .proto file."""

import os
import shutil
import socket
import subprocess
from pathlib import Path

import numpy as np
import pytest

from benchmarks.load.formats import RAW
from service import SHIPPED_MODEL
from service.api.open_inference.messages import CONTRACT
from tests.service.server.rpc.client import grpc_service

pytestmark = [pytest.mark.process, pytest.mark.slow]

SOURCE = Path(__file__).parent / "foreign" / "cms.cpp"
PROTO = CONTRACT.with_name("inference.proto")
LIBRARIES = ("-Wl,--copy-dt-needed-entries", "-lgrpc++", "-lgrpc", "-lprotobuf")
HEADERS = ("-include", "grpcpp/grpcpp.h", "-include", "google/protobuf/message.h")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generate the stubs and compile the client."""
    folder = tmp_path_factory.mktemp("cms")
    compiler, protoc, plugin = (shutil.which(name) for name in ("c++", "protoc", "grpc_cpp_plugin"))
    if compiler is None:
        pytest.skip("there is no C++ compiler: install g++ or clang")
    if protoc is None or plugin is None:
        pytest.skip("there is no protoc or grpc_cpp_plugin: install protobuf-compiler and protobuf-compiler-grpc")
    probe = [compiler, "-std=c++17", "-E", "-x", "c++", *HEADERS, os.devnull]
    if subprocess.run(probe, capture_output=True, check=False).returncode != 0:
        pytest.skip("the headers of gRPC or protobuf are missing: install libgrpc++-dev and libprotobuf-dev")
    stubs = [f"--cpp_out={folder}", f"--grpc_out={folder}", f"--plugin=protoc-gen-grpc={plugin}"]
    subprocess.run([protoc, f"-I{PROTO.parent}", *stubs, PROTO.name], check=True)
    sources = [SOURCE, folder / "inference.pb.cc", folder / "inference.grpc.pb.cc"]
    warnings = ("-Wall", "-Wextra", "-Werror", "-isystem", folder)
    compiled = folder / "cms"
    subprocess.run([compiler, "-std=c++17", "-O0", *warnings, *sources, *LIBRARIES, "-o", compiled], check=True)
    return compiled


def test_the_sequence_of_cms_gets_the_scores_of_the_raw_route(program: Path) -> None:
    """A server that is down is skipped; a batch is scored in one call and in many at once, to the last bit."""
    events = np.random.default_rng(1).uniform(50, 1500, (5000, 14)).astype("<f4")
    with (
        grpc_service(SHIPPED_MODEL, "--served-name", "cms") as (service, address),
        socket.create_server(("127.0.0.1", 0)) as closed,
    ):
        down = f"127.0.0.1:{closed.getsockname()[1]}"
        closed.close()
        expected = service.post("/score/batch", RAW.write("", events), RAW.media_type).content
        for n_requests in (1, 40):
            command = [str(program), "cms", str(n_requests), down, address]
            done = subprocess.run(command, input=events.tobytes(), capture_output=True, check=False, timeout=120)
            assert done.returncode == 0, done.stderr
            assert done.stderr.startswith(f"skipped {down}: ".encode())
            assert done.stdout == expected
        done = subprocess.run(
            [str(program), "other", "1", address], input=b"", capture_output=True, check=False, timeout=120
        )
        assert done.stderr.endswith(b"error: no server has other\n")
        assert service.log_levels == {"INFO"}
