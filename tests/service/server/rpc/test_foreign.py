"""Clients of other projects, in an environment of their own, against the shipped model."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from service import SHIPPED_MODEL
from tests.service.server.rpc.client import grpc_service

pytestmark = [pytest.mark.process, pytest.mark.slow]

ROOT = Path(__file__).parents[4]
PYTHON = ROOT / "build" / "clients" / "bin" / "python"
SCRIPTS = Path(__file__).parent / "foreign"
FIELDS = """
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from service.api.open_inference.messages import CONTRACT, message

def check(messages, package):
    for one in messages:
        name = f"{package}.{one.name}"
        ours, theirs = message(name).DESCRIPTOR, pool.FindMessageTypeByName(name)
        for field in ours.fields:
            other = theirs.fields_by_name[field.name]
            assert (field.number, field.type, field.label) == (other.number, other.type, other.label), field.full_name
        check((nested for nested in one.nested_type if not nested.options.map_entry), name)

for file in FileDescriptorSet.FromString(CONTRACT.read_bytes()).file:
    if file.package == "inference":
        check(file.message_type, file.package)
        for enum in file.enum_type:
            theirs = pool.FindEnumTypeByName(f"inference.{enum.name}").values_by_name
            assert {value.name: value.number for value in enum.value}.items() <= {
                name: value.number for name, value in theirs.items()
            }.items()
"""


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    if not PYTHON.exists():
        pytest.skip("their packages are not installed: make build/clients/ready")


@pytest.fixture(scope="module")
def address(_installed: None) -> Iterator[str]:
    """Serve the shipped model."""
    with grpc_service(SHIPPED_MODEL) as (service, address):
        yield address
        assert service.log_levels == {"INFO"}


@pytest.mark.parametrize("script", ["triton.py", "kserve_client.py"])
def test_clients_have_events_scored(address: str, script: str) -> None:
    """They find what they expect, in every way in which they call."""
    subprocess.run([PYTHON, SCRIPTS / script, address, "density"], check=True, timeout=300)


@pytest.mark.parametrize("package", ["tritonclient.grpc", "kserve"])
def test_the_messages_live_beside_those_of_clients(package: str) -> None:
    """One process imports both, and the messages of tritonclient have the same numbers of all fields."""
    script = f"import {package}\nfrom service.api.open_inference.messages import message\n"
    script += "assert message('inference.ModelInferRequest')(id='a').SerializeToString()\n"
    if package == "tritonclient.grpc":
        script += "from tritonclient.grpc import service_pb2\npool = service_pb2.DESCRIPTOR.pool\n" + FIELDS
    subprocess.run([PYTHON, "-c", script], check=True, timeout=300, cwd=ROOT)
