"""Object code into memory: relocatable ELF objects, linked into this process within 0.3 ms.

An image has three parts, each in pages of its own: code with jumps to what is outside, constants
with the words that hold addresses, and data. All of it is written first; then code can be run and
not be written any more, and constants can only be read.
"""

from __future__ import annotations

import ctypes
import mmap
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dlc.runtime.errors import ArtifactError
from dlc.runtime.memory import address_of
from dlc.runtime.relocations import MACHINES, Machine, Numbers, Unlinkable

__all__ = ["Image", "Unlinkable", "link", "members"]

_SECTION: Final = np.dtype([
    ("name", "<u4"), ("type", "<u4"), ("flags", "<u8"), ("address", "<u8"), ("offset", "<u8"),
    ("size", "<u8"), ("link", "<u4"), ("info", "<u4"), ("align", "<u8"), ("entry", "<u8"),
])  # fmt: skip
_SYMBOL: Final = np.dtype([
    ("name", "<u4"), ("info", "u1"), ("other", "u1"), ("section", "<u2"), ("value", "<u8"),
    ("size", "<u8"),
])  # fmt: skip
_RELOCATION: Final = np.dtype([("offset", "<u8"), ("info", "<u8"), ("addend", "<i8")])
_SYMBOLS, _WITH_ADDENDS, _EMPTY, _WITHOUT_ADDENDS = 2, 4, 8, 9  # types of sections
_WRITE, _LOADED, _CODE = 1, 2, 4  # flags of sections
_LARGEST_SECTION: Final = 0xFF00  # numbers from here on have a meaning of their own
_JUMP: Final = 16  # bytes of a jump to the outside
_PAGE: Final = mmap.PAGESIZE
_ARCHIVE: Final = b"!<arch>\n"
_MEMBER_HEAD: Final = 60

Resolve = Callable[[str], int | None]


@dataclass(frozen=True, slots=True)
class Image:
    """Linked code; its memory is freed with the last reference to it."""

    memory: NDArray[np.uint8]
    symbols: Mapping[str, int]


def members(data: bytes) -> list[bytes]:
    """The objects of an archive, in its order; `data` itself if it is none."""
    if not data.startswith(_ARCHIVE):
        return [data]
    found, at = [], len(_ARCHIVE)
    while at < len(data):
        start = at + _MEMBER_HEAD
        size = int(data[at + 48 : at + 58])
        found.append(data[start : start + size])
        at = start + size + size % 2
    return found


def link(
    data: bytes, imports: Mapping[str, int], machine: str = platform.machine(), base: int = 0
) -> Image:
    """Link an object of `machine`; what it lacks is in `imports`, or in this process.

    `Unlinkable` for what this linker does not know; ArtifactError for an object that is damaged or
    wants what is nowhere. With a `base`, it is linked as if it lay there, and can't be run.
    """
    if machine not in MACHINES or not data.startswith(b"\x7fELF"):
        raise Unlinkable("it is no ELF object of a machine that is known here")
    try:
        return _Linker(data, MACHINES[machine], imports).link(base)
    except (IndexError, ValueError, OverflowError, OSError) as error:
        raise ArtifactError(f"the object code can't be loaded: {error}") from error


class _Linker:
    """One link."""

    def __init__(self, data: bytes, machine: Machine, imports: Mapping[str, int]) -> None:
        self.machine = machine
        self._data = data
        self._imports = imports
        header = np.frombuffer(data, "<u2", 32)
        table = int(np.frombuffer(data, "<u8", 1, 40)[0])
        kind, number, count = int(header[8]), int(header[9]), int(header[30])
        if (data[4:6], kind, number) != (b"\x02\x01", 1, machine.number):
            raise Unlinkable("it is no relocatable object of this machine")
        self.sections = np.frombuffer(data, _SECTION, count, table)
        self._read_symbols()
        self._place()

    def _read_symbols(self) -> None:
        (at,) = np.flatnonzero(self.sections["type"] == _SYMBOLS)
        section = self.sections[at]
        self.symbols = np.frombuffer(
            self._data, _SYMBOL, int(section["size"]) // _SYMBOL.itemsize, int(section["offset"]))
        text = self._bytes(self.sections[section["link"]])
        named = (self.symbols["info"] >> 4 != 0) & (self.symbols["name"] != 0)  # not the local ones
        self.names = {
            int(n): text[start : text.index(b"\0", start)].decode()
            for n, start in zip(np.flatnonzero(named), self.symbols["name"][named], strict=True)
        }

    def _bytes(self, section: Any) -> bytes:
        start, size = int(section["offset"]), int(section["size"])
        return self._data[start : start + size]

    def _place(self) -> None:
        """Where everything lies in the image; jumps follow the code, addresses the constants."""
        flags = self.sections["flags"]
        loaded = flags & _LOADED != 0
        code, written = flags & _CODE != 0, flags & _WRITE != 0
        self.outside = np.flatnonzero(self.symbols["section"] == 0)  # symbols of others
        self.places = np.zeros(len(self.sections), np.int64)
        end = self._pack(0, loaded & code)
        self.jumps = end = -(-end // _JUMP) * _JUMP
        self.constants = end = self._next_page(end + _JUMP * len(self.outside))
        end = self._pack(end, loaded & ~code & ~written)
        self.addresses = end = -(-end // 8) * 8
        self.variables = end = self._next_page(end + 8 * len(self.symbols))
        self.size = self._pack(end, loaded & written) + 1
        self.loaded = np.flatnonzero(loaded)

    @staticmethod
    def _next_page(end: int) -> int:
        return -(-end // _PAGE) * _PAGE

    def _pack(self, end: int, chosen: NDArray[np.bool_]) -> int:
        """Sections one behind another."""
        for at in np.flatnonzero(chosen):
            align = max(int(self.sections["align"][at]), 1)
            self.places[at] = end = -(-end // align) * align
            end += int(self.sections["size"][at])
        return end

    def link(self, base: int) -> Image:
        """The image, ready to be run if it is linked for where it lies."""
        memory = mmap.mmap(-1, self.size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        image = np.frombuffer(memory, np.uint8)
        start = base or address_of(image)
        for at in self.loaded:
            section = self.sections[at]
            if section["type"] != _EMPTY:
                content = np.frombuffer(self._bytes(section), np.uint8)
                image[self.places[at] : self.places[at] + len(content)] = content
        symbols = self._symbol_addresses(start)
        self._write_outside(image, symbols)
        for section in self.sections:
            self._relocate(image, start, symbols, section)
        if not base:
            self._protect(start)
        return Image(image, self._exported(symbols))

    def _symbol_addresses(self, start: int) -> Numbers:
        """The address of every symbol, found outside where it is not of this object."""
        of = self.symbols["section"].astype(np.int64)
        if (of >= _LARGEST_SECTION).any():
            special = self.symbols[of >= _LARGEST_SECTION]
            if (special["info"] & 15 != 4).any():  # all but the name of the source file
                raise Unlinkable("a symbol is of no section")
            of = np.where(of >= _LARGEST_SECTION, 0, of)
        found = start + self.places[of] + self.symbols["value"].astype(np.int64)
        for at in self.outside:
            found[at] = self._address(self.names[int(at)]) if int(at) in self.names else 0
        return found

    def _address(self, name: str) -> int:
        """Of what another has: the caller, or a library of this process."""
        if name in self._imports:
            return self._imports[name]
        try:
            return ctypes.cast(getattr(ctypes.CDLL(None), name), ctypes.c_void_p).value or 0
        except AttributeError:
            raise ArtifactError(
                f"the object code can't be loaded: it wants `{name}`, which is nowhere") from None

    def _write_outside(self, image: NDArray[np.uint8], symbols: Numbers) -> None:
        """The jumps to the symbols of others, and all addresses as words."""
        end = self.jumps + _JUMP * len(self.outside)
        jumps = image[self.jumps : end].reshape(-1, _JUMP)
        jumps[:, :8] = np.frombuffer(self.machine.jump, np.uint8)
        jumps[:, 8:] = symbols[self.outside].view(np.uint8).reshape(-1, 8)
        image[self.addresses : self.addresses + symbols.nbytes] = symbols.view(np.uint8)

    def _relocate(
        self, image: NDArray[np.uint8], start: int, symbols: Numbers, section: Any
    ) -> None:
        """All that a section says of another."""
        target = int(section["info"])
        wanted = section["type"] in (_WITH_ADDENDS, _WITHOUT_ADDENDS)
        if not wanted or target not in self.loaded:
            return
        if section["type"] == _WITHOUT_ADDENDS:
            raise Unlinkable("its relocations have no addends")
        entries = np.frombuffer(self._bytes(section), _RELOCATION)
        kinds = entries["info"] & 0xFFFFFFFF
        for kind in sorted(set(kinds.tolist())):
            if kind not in self.machine.rules:
                raise Unlinkable(f"relocations of kind {kind} are not known here")
            rule, chosen = self.machine.rules[kind], entries[kinds == kind]
            places = self.places[target] + chosen["offset"].astype(np.int64)
            numbers = (chosen["info"] >> 32).astype(np.int64)
            values = self._targets(rule.symbol, numbers, start, symbols) + chosen["addend"]
            rule.write(image, places, rule.value(values, start + places))

    def _targets(self, which: str, numbers: Numbers, start: int, symbols: Numbers) -> Numbers:
        """The addresses that count for symbols of these numbers."""
        if which == "G":
            return start + self.addresses + 8 * numbers
        if which == "S":
            return symbols[numbers]
        order = np.searchsorted(self.outside, numbers)
        theirs = self.symbols["section"][numbers] == 0
        return np.where(theirs, start + self.jumps + _JUMP * order, symbols[numbers])

    def _protect(self, start: int) -> None:
        """Code is only read and run from now on, constants are only read.

        The system makes the instruction cache see code where it does not by itself.
        """
        change = ctypes.CDLL(None, use_errno=True).mprotect
        change.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        parts = ((0, self.constants, mmap.PROT_READ | mmap.PROT_EXEC),
                 (self.constants, self.variables, mmap.PROT_READ))  # fmt: skip
        for low, high, rights in parts:
            if high > low and change(start + low, high - low, rights):
                raise ArtifactError("the system does not let code that was made here be run "
                                    f"(mprotect: error {ctypes.get_errno()})")

    def _exported(self, symbols: Numbers) -> dict[str, int]:
        of = self.symbols["section"]
        return {name: int(symbols[at]) for at, name in self.names.items() if of[at]}
