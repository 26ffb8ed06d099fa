"""The messages of gRPC: what is shipped is made of the .proto files, and other packages may have the same names."""

import subprocess
import sys
from pathlib import Path

from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from service.api.open_inference import grpc_calls
from service.api.open_inference.messages import CONTRACT, message


def test_the_contract_is_made_of_the_proto_files(tmp_path: Path) -> None:
    """`make proto` would write the same."""
    made = tmp_path / "contract.binpb"
    files = ["inference.proto", "health.proto"]
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I.", f"--descriptor_set_out={made}", *files]
    subprocess.run(command, cwd=CONTRACT.parent, check=True)
    assert made.read_bytes() == CONTRACT.read_bytes()


def test_every_call_of_the_contract_is_offered() -> None:
    """The services in the files have the calls that are answered, and no others."""
    files = FileDescriptorSet.FromString(CONTRACT.read_bytes()).file
    calls = {
        f"/{file.package}.{service.name}/{method.name}"
        for file in files
        for service in file.service
        for method in service.method
    }
    assert calls == set(grpc_calls.PATHS)


def test_other_packages_may_have_messages_of_the_same_names() -> None:
    """As tritonclient and kserve do: protobuf's common pool takes a name once, and has none of ours."""
    script = f"""
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from service.api.open_inference.messages import message

ours = message("inference.ModelInferRequest")
files = FileDescriptorSet.FromString(open({str(CONTRACT)!r}, "rb").read()).file
for file in files:
    file.message_type[0].field.add(name="more", number=99, label=1, type=9)  # a little different
    descriptor_pool.Default().AddSerializedFile(file.SerializeToString())
theirs = descriptor_pool.Default().FindMessageTypeByName("inference.ModelInferRequest")
assert theirs is not ours.DESCRIPTOR
assert ours.FromString(ours(model_name="a").SerializeToString()).model_name == "a"
"""
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True)
    assert message("inference.ModelInferRequest").DESCRIPTOR.file.pool is not descriptor_pool.Default()
