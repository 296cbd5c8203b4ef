"""Objects linked without LLVM: every kind of reference, rights of memory, what is beyond it."""

from __future__ import annotations

import ctypes
import gc
import platform
import re
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlc.runtime import elf, jit
from dlc.runtime.errors import ArtifactError
from dlc.runtime.relocations import MACHINES, Unlinkable

HERE = platform.machine()
linked_here = pytest.mark.skipif(
    sys.platform != "linux" or HERE not in MACHINES, reason="LLVM links objects here"
)

REFERENCES = """
@table = private constant [4 x i32] [i32 10, i32 20, i32 30, i32 40], align 64
@counter = global i64 5
@empty = global [100 x i64] zeroinitializer, align 64
@pointer = global ptr @twice
@inside = global ptr getelementptr ([4 x i32], ptr @table, i64 0, i64 3)
@theirs = external global i64
declare i64 @outside(i64)
declare i32 @abs(i32)

define i64 @twice(i64 %x) noinline nounwind { %y = add i64 %x, %x  ret i64 %y }

define i64 @local(i64 %i) nounwind {
  %at = getelementptr [4 x i32], ptr @table, i64 0, i64 %i
  %number = load i32, ptr %at
  %wide = zext i32 %number to i64
  %more = call i64 @twice(i64 %wide)
  %old = load volatile i64, ptr @counter
  %new = add i64 %old, 1
  store volatile i64 %new, ptr @counter
  %slot = getelementptr [100 x i64], ptr @empty, i64 0, i64 %i
  %before = load volatile i64, ptr %slot
  store volatile i64 1, ptr %slot
  %sum = add i64 %more, %new
  %all = add i64 %sum, %before
  ret i64 %all
}
define i64 @by_pointer(i64 %x) nounwind {
  %function = load volatile ptr, ptr @pointer
  %y = call i64 %function(i64 %x)
  %last = load volatile ptr, ptr @inside
  %number = load i32, ptr %last
  %wide = zext i32 %number to i64
  %sum = add i64 %y, %wide
  ret i64 %sum
}
define i64 @far(i64 %x) nounwind {
  %y = call i64 @outside(i64 %x)
  %near = trunc i64 %y to i32
  %positive = call i32 @abs(i32 %near)
  %wide = zext i32 %positive to i64
  %value = load i64, ptr @theirs
  %sum = add i64 %wide, %value
  ret i64 %sum
}
define i64 @choose(i64 %x) nounwind {
  switch i64 %x, label %other [
    i64 0, label %a  i64 1, label %b  i64 2, label %c  i64 3, label %d  i64 4, label %e
  ]
a: %p = call i64 @twice(i64 7) ret i64 %p
b: %q = call i64 @local(i64 0) ret i64 %q
c: ret i64 4321
d: %r = load volatile i64, ptr @counter ret i64 %r
e: %s = call i64 @by_pointer(i64 9) ret i64 %s
other: ret i64 -1
}
"""
FUNCTION = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)
NAMES = ("local", "by_pointer", "far", "choose")


def imports() -> tuple[dict[str, int], list[Any]]:
    """What `REFERENCES` lacks, and what keeps it alive."""
    value = ctypes.c_int64(1000)
    function = FUNCTION(lambda x: -3 * x)
    address = ctypes.cast(function, ctypes.c_void_p).value or 0
    return {"theirs": ctypes.addressof(value), "outside": address}, [value, function]


@linked_here
def test_references_of_all_kinds() -> None:
    found, alive = imports()
    codes = [jit.load(jit.compile_text(REFERENCES), NAMES, found) for _ in range(2)]
    assert [code.linker for code in codes] == ["dlc", "dlc"]
    for code in codes:  # each has data of its own
        local, by_pointer, far, choose = (FUNCTION(code.address(name)) for name in NAMES)
        assert [local(i) for i in (0, 1, 3, 1)] == [20 + 6, 40 + 7, 80 + 8, 40 + 9 + 1]
        assert by_pointer(8) == 16 + 40
        assert far(14) == 42 + 1000
        assert [choose(i) for i in range(6)] == [14, 20 + 10 + 1, 4321, 10, 18 + 40, -1]
    assert len(alive) == 2


@linked_here
def test_no_memory_can_be_written_and_run() -> None:
    found, alive = imports()
    image = elf.link(jit.compile_text(REFERENCES), found)
    rights = {name: rights_at(image.symbols[name]) for name in ("local", "counter", "empty")}
    assert rights == {"local": "r-x", "counter": "rw-", "empty": "rw-"}
    table = int.from_bytes(ctypes.string_at(image.symbols["inside"], 8), sys.byteorder)
    assert rights_at(table) == "r--"
    assert alive


def rights_at(address: int) -> str:
    """What may be done with memory: `rwx`, with `-` for what may not."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        found = re.match(r"([0-9a-f]+)-([0-9a-f]+) (...)", line)
        if found and int(found[1], 16) <= address < int(found[2], 16):
            return found[3]
    return ""


@linked_here
def test_memory_goes_with_the_code() -> None:
    code = jit.load(jit.compile_text("define i64 @f(i64 %x) { ret i64 %x }"), ["f"])
    address = code.address("f")
    assert rights_at(address) == "r-x"
    del code
    gc.collect()
    assert rights_at(address) != "r-x"


@linked_here
def test_what_is_nowhere_is_named() -> None:
    with pytest.raises(ArtifactError, match="it wants `outside`, which is nowhere"):
        jit.load(jit.compile_text(REFERENCES), NAMES, {})


@linked_here
def test_what_is_not_known_is_linked_by_llvm_and_it_says_so() -> None:
    data = bytearray(jit.compile_text("""
declare i32 @abs(i32)
define i32 @f(i32 %x) { %y = call i32 @abs(i32 %x)  %z = add i32 %y, 1  ret i32 %z }"""))
    before = elf.link(bytes(data), {}).symbols
    data[5] = 2  # the other byte order
    with pytest.raises(Unlinkable, match="no relocatable object of this machine"):
        elf.link(bytes(data), {})
    text = """
@own = thread_local global i64 40
define ptr @f() { ret ptr @own }"""
    with pytest.raises(Unlinkable, match=r"relocations of kind \d+ are not known here"):
        elf.link(jit.compile_text(text), {"__tls_get_addr": 1})
    assert set(before) == {"f"}


@linked_here
def test_llvm_links_the_same() -> None:
    text = "define i64 @f(i64 %x) { %y = mul i64 %x, 3  ret i64 %y }"
    code = jit._load_by_llvm([jit.compile_text(text)], ["f"], {}, "for a test")
    assert FUNCTION(code.address("f"))(14) == 42
    assert code.linker == "LLVM: for a test"


@linked_here
def test_damaged_objects_end_in_an_error() -> None:
    found, _ = imports()
    data = jit.compile_text(REFERENCES)
    random = np.random.default_rng(0)
    table = struct.unpack_from("<Q", data, 40)[0]
    cut = [data[:length] for length in (20, 63, 64, table, table + 100, len(data) - 1)]
    for each in cut:
        with pytest.raises((ArtifactError, Unlinkable)):
            elf.link(each, found, base=1 << 32)
    for _ in range(300):  # one byte of the tables at a time: an error, or another image
        other = bytearray(data)
        at = int(random.integers(table, len(data)))
        other[at] ^= 1 << int(random.integers(8))
        try:
            elf.link(bytes(other), found, base=1 << 32)
        except (ArtifactError, Unlinkable):
            pass


# AArch64 can't be run here: its instructions are read again, and must lead to the same places.


def arm_object() -> bytes:
    """`REFERENCES` for AArch64."""
    import llvmlite.binding as llvm

    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    target = llvm.Target.from_triple("aarch64-unknown-linux-gnu")
    machine = target.create_target_machine(opt=2, reloc="pic", codemodel="small")
    return bytes(machine.emit_object(llvm.parse_assembly(REFERENCES, llvm.create_context())))


def signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> bits - 1 else value


class Arm:
    """What the instructions of an image refer to, and its memory as it would be."""

    def __init__(self, image: elf.Image, base: int) -> None:
        self.base, self.memory = base, image.memory.tobytes()
        self.words = np.frombuffer(self.memory[: len(self.memory) // 4 * 4], "<u4").tolist()

    def word(self, address: int) -> int:
        """The 8 bytes at an address."""
        start = address - self.base
        return int.from_bytes(self.memory[start : start + 8], "little")

    def references(self) -> list[tuple[str, int]]:
        """Calls and branches with their targets, and places that ADRP with a second one reach."""
        found, pages = [], {}
        for at, word in enumerate(self.words):
            place = self.base + 4 * at
            if word >> 26 in (0b100101, 0b000101):
                found.append(("call", place + 4 * signed(word & 0x3FFFFFF, 26)))
            elif word >> 31 and word >> 24 & 0x1F == 0b10000:
                distance = signed((word >> 5 & 0x7FFFF) << 2 | word >> 29 & 3, 21)
                pages[word & 31] = (place & ~0xFFF) + (distance << 12)
            elif word >> 22 == 0b1001000100 and word >> 5 & 31 in pages:  # add, 64 bits
                found.append(("address", pages[word >> 5 & 31] + (word >> 10 & 0xFFF)))
            elif word >> 22 == 0b1111100101 and word >> 5 & 31 in pages:  # ldr, 64 bits
                found.append(("load", pages[word >> 5 & 31] + 8 * (word >> 10 & 0xFFF)))
        return found


def test_arm_instructions_lead_where_they_should() -> None:
    base, outside = 0x7F12_3456_7000, {"outside": 0x1122334455, "theirs": 0x66778899, "abs": 0x9988}
    arm = Arm(image := elf.link(arm_object(), outside, "aarch64", base), base)
    references = arm.references()
    symbols = image.symbols
    calls = {target for kind, target in references if kind == "call"}
    assert symbols["twice"] in calls
    jumps = {arm.word(target + 8) for target in calls - set(symbols.values())
             if arm.word(target) == 0xD61F0200_58000050}  # ldr x16, 8; br x16
    assert jumps == {outside["outside"], outside["abs"]}
    held = {arm.word(target) for kind, target in references if kind == "load"}
    assert {symbols["counter"], symbols["empty"], outside["theirs"]} <= held
    assert arm.word(symbols["pointer"]) == symbols["twice"]
    last = arm.word(symbols["inside"])
    assert arm.word(last) & 0xFFFFFFFF == 40
    assert any(kind == "address" and target == last - 12 for kind, target in references)


def test_arm_calls_that_are_too_far_are_refused() -> None:
    rule = MACHINES["aarch64"].rules[283]
    image, place = np.zeros(16, np.uint8), np.array([4])
    rule.write(image, place, np.array([-(1 << 27)]))
    assert image[4:8].view("<u4")[0] == 1 << 25
    with pytest.raises(Unlinkable, match="does not fit 26 bits"):
        rule.write(image, place, np.array([1 << 27]))
    with pytest.raises(Unlinkable, match="8 bytes is not aligned"):
        MACHINES["aarch64"].rules[286].write(image, place, np.array([4]))
