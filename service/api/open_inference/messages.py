"""The messages of gRPC, built from contract.binpb, which `make proto` writes from the two .proto files beside it.

They have their own pool: other packages have messages of the same names (tritonclient, kserve), and protobuf's common
pool allows a name only once in a process.
"""

from functools import cache
from pathlib import Path
from typing import Any, Final

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

CONTRACT: Final = Path(__file__).with_name("contract.binpb")


@cache
def message(name: str) -> Any:
    """Return the class of a message by its full name, such as inference.ModelInferRequest."""
    return GetMessageClass(_pool().FindMessageTypeByName(name))


@cache
def _pool() -> DescriptorPool:
    pool = DescriptorPool()
    for file in FileDescriptorSet.FromString(CONTRACT.read_bytes()).file:
        pool.AddSerializedFile(file.SerializeToString())
    return pool
