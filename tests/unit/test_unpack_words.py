"""Every fault of the C core's unpacker has its sentence, and no sentence is left over."""

from __future__ import annotations

from pycontain import _native
from pycontain.image import unpack


def test_every_fault_has_words() -> None:
    worded = {*unpack._MALFORMED, *unpack._REJECTED, *unpack._LIMITS, "none", "system", "unmapped"}
    assert worded == set(_native.unpack_faults())
