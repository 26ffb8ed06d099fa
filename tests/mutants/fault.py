"""What a deliberate fault is: a text of one file, and what replaces it."""

from collections.abc import Sequence
from typing import NamedTuple


class Fault(NamedTuple):
    """A change of the code that is wrong, unless it says why it is `equivalent`: then nothing can notice it."""

    what: str
    """What is wrong with the changed code."""
    text: str
    """It occurs once in the file."""
    replacement: str
    tests: str = ""
    """What pytest is to run, if it is not what the part says."""
    equivalent: str = ""


class Part(NamedTuple):
    """A file, the tests that should notice its faults as arguments of pytest, and the faults."""

    file: str
    tests: str
    faults: Sequence[Fault]

    def tests_of(self, fault: Fault) -> str:
        """Return the tests that should notice one of the faults."""
        return fault.tests or self.tests

    def changed(self, fault: Fault, content: str) -> str:
        """Return the file's content with the fault; raises ValueError where its text does not occur exactly once."""
        if (count := content.count(fault.text)) != 1:
            raise ValueError(f"{self.file} has {count} times {fault.text!r}, expected once: bring the fault up to date")
        return content.replace(fault.text, fault.replacement)
