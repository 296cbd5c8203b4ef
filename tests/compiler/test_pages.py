"""LLVM's pages are given back: only clean ones, and LLVM works on."""

from __future__ import annotations

import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from dlc.compiler.levels import Compiled
from dlc.compiler.llvm import pages
from dlc.compiler.llvm.codegen import begin_code
from dlc.compiler.llvm.target import host

SMAPS = Path("/proc/self/smaps")
linux = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is given back")
CODE = "define i64 @f(i64 %x) { %y = add i64 %x, 1\n ret i64 %y }"


def spans_with_own_pages() -> list[tuple[int, int]]:
    """Where the process has pages that are of no file, or may write to them."""
    found = []
    start = end = 0
    writable = False
    for line in SMAPS.read_text().splitlines():
        head = re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+)", line)
        if head:
            start, end, writable = int(head[1], 16), int(head[2], 16), "w" in head[3]
        elif line.startswith("Anonymous:") and (writable or line.split()[1] != "0"):
            found.append((start, end))
    return found


@linux
def test_nothing_that_was_written_is_given_back() -> None:
    begin_code(Compiled(CODE, {}), host())()
    parts = pages._parts()
    assert sum(size for _, size in parts) > 50 << 20
    for start, size in parts:
        assert not [s for s in spans_with_own_pages() if s[0] < start + size and start < s[1]]


def test_llvm_works_on() -> None:
    first = begin_code(Compiled(CODE, {}), host())()
    pages.release_pages()
    assert begin_code(Compiled(CODE, {}), host())() == first


@linux
def test_the_process_gets_smaller() -> None:
    script = f"""
from dlc.compiler.levels import Compiled
from dlc.compiler.llvm.codegen import begin_code
from dlc.compiler.llvm.target import host
import re
begin_code(Compiled({CODE!r}, {{}}), host())()
print(re.search(r"RssFile:\\s+(\\d+)", open("/proc/self/status").read())[1])
print(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
"""
    command = [sys.executable, "-c", script]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    mapped, peak = (int(word) / 1024 for word in result.stdout.split())
    assert mapped < 35 < 50 < peak


def test_what_is_no_64_bit_elf_has_no_parts(tmp_path: Path) -> None:
    file = tmp_path / "x.so"
    file.write_bytes(b"\x7fELF\x01" + bytes(100))
    assert pages.read_only_parts(file) == []


def test_whole_pages_of_what_nothing_writes_to(tmp_path: Path) -> None:
    page = pages.PAGESIZE
    segments = ((1, 5, 100, 3 * page), (1, 6, 4 * page, page), (1, 4, 8 * page, page + 5),
                (4, 4, 0, 9 * page), (1, 4, 20 * page + 1, 10))
    head = b"\x7fELF\x02\x01" + bytes(26) + struct.pack("<Q", 64) + bytes(14)
    head += struct.pack("<HH", 56, len(segments)) + bytes(6)
    table = b"".join(struct.pack("<IIQQQQQQ", kind, flags, 0, start, start, size, size, page)
                     for kind, flags, start, size in segments)
    file = tmp_path / "x.so"
    file.write_bytes(head + table)
    assert pages.read_only_parts(file) == [(page, 2 * page), (8 * page, page)]
