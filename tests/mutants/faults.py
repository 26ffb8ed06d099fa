"""All deliberate faults."""

from typing import Final

from tests.mutants.client import CLIENT
from tests.mutants.fault import Part
from tests.mutants.files import FILES
from tests.mutants.grpc import GRPC
from tests.mutants.offline import OFFLINE
from tests.mutants.serving import SERVING

PARTS: Final[tuple[Part, ...]] = (*SERVING, *GRPC, *CLIENT, *FILES, *OFFLINE)
