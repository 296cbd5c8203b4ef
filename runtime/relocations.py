"""What an instruction or a word is filled with, once it is known where all things lie.

For each kind of relocation of a machine: which place of the symbol counts, from where it is
counted, and how it is written. S: the symbol. L: a jump to it, if it is not of this object. G: a
word that holds its address. All relocations of a kind are done at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["MACHINES", "Machine", "Rule", "Unlinkable"]

Bytes: TypeAlias = NDArray[np.uint8]
Numbers: TypeAlias = NDArray[np.int64]
Write: TypeAlias = Callable[[Bytes, Numbers, Numbers], None]  # image, places in it, values


class Unlinkable(Exception):
    """What of an object is beyond this linker; `str` says it."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One kind of relocation."""

    symbol: Literal["S", "L", "G"]
    base: Literal["zero", "place", "page", "within"]
    write: Write

    def value(self, target: Numbers, place: Numbers) -> Numbers:
        """What is written at `place` for a `target` (addresses)."""
        if self.base == "page":
            return (target & ~0xFFF) - (place & ~0xFFF)
        if self.base == "within":
            return target & 0xFFF
        return target - place if self.base == "place" else target


@dataclass(frozen=True, slots=True)
class Machine:
    """A family of CPUs: its number in ELF, its relocations, and a jump to any address."""

    number: int
    rules: Mapping[int, Rule]
    jump: bytes  # followed by the address, it fills 16 bytes


def _within(values: Numbers, bits: int) -> Numbers:
    """`values`, if they are signed numbers of so many bits."""
    limit = 1 << bits - 1
    if ((values < -limit) | (values >= limit)).any():
        raise Unlinkable(f"a distance does not fit {bits} bits")
    return values


def _put(image: Bytes, places: Numbers, values: NDArray[Any]) -> None:
    """The bytes of each value at its place, which need not be aligned."""
    size = values.itemsize
    image[places[:, None] + np.arange(size)] = values.view(np.uint8).reshape(-1, size)


def _word64(image: Bytes, places: Numbers, values: Numbers) -> None:
    _put(image, places, values)


def _word32(image: Bytes, places: Numbers, values: Numbers) -> None:
    _put(image, places, _within(values, 32).astype(np.int32))


def _insert(image: Bytes, places: Numbers, fields: Numbers) -> None:
    """Into instructions of 32 bits, whose fields are 0."""
    words = image[places[:, None] + np.arange(4)].view(np.uint32)[:, 0]
    _put(image, places, words | fields.astype(np.uint32))


def _page(image: Bytes, places: Numbers, values: Numbers) -> None:
    """The pages between an ADRP and its target: two low bits far up, 19 above bit 5."""
    pages = _within(values >> 12, 21)
    _insert(image, places, (pages & 3) << 29 | (pages >> 2 & 0x7FFFF) << 5)


def _low_bits(scale: int) -> Write:
    """The place within a page, of an access to 1 << scale bytes or an addition."""

    def write(image: Bytes, places: Numbers, values: Numbers) -> None:
        if (values & (1 << scale) - 1).any():
            raise Unlinkable(f"an access to {1 << scale} bytes is not aligned")
        _insert(image, places, values >> scale << 10)

    return write


def _branch(image: Bytes, places: Numbers, values: Numbers) -> None:
    """A branch or call: 26 bits, in instructions."""
    _insert(image, places, _within(values >> 2, 26) & 0x3FFFFFF)


_GOT_32: Final = Rule("G", "place", _word32)
_CALL: Final = Rule("L", "place", _branch)
_X86_64: Final = Machine(62, {
    1: Rule("S", "zero", _word64),  # R_X86_64_64
    2: Rule("S", "place", _word32),  # PC32
    4: Rule("L", "place", _word32),  # PLT32
    24: Rule("S", "place", _word64),  # PC64
    9: _GOT_32, 41: _GOT_32, 42: _GOT_32,  # GOTPCREL, GOTPCRELX, REX_GOTPCRELX
}, bytes.fromhex("ff2502000000 0f0b"))  # jmp [rip + 2]; ud2  # fmt: skip
_AARCH64: Final = Machine(183, {
    257: Rule("S", "zero", _word64),  # R_AARCH64_ABS64
    260: Rule("S", "place", _word64),  # PREL64
    261: Rule("S", "place", _word32),  # PREL32
    275: Rule("S", "page", _page),  # ADR_PREL_PG_HI21
    277: Rule("S", "within", _low_bits(0)),  # ADD_ABS_LO12_NC
    278: Rule("S", "within", _low_bits(0)),  # LDST8_ABS_LO12_NC, and so on to 128 bits
    284: Rule("S", "within", _low_bits(1)),
    285: Rule("S", "within", _low_bits(2)),
    286: Rule("S", "within", _low_bits(3)),
    299: Rule("S", "within", _low_bits(4)),
    282: _CALL, 283: _CALL,  # JUMP26, CALL26
    311: Rule("G", "page", _page),  # ADR_GOT_PAGE
    312: Rule("G", "within", _low_bits(3)),  # LD64_GOT_LO12_NC
}, bytes.fromhex("50000058 00021fd6"))  # ldr x16, 8; br x16  # fmt: skip
MACHINES: Final[Mapping[str, Machine]] = {"x86_64": _X86_64, "aarch64": _AARCH64}
