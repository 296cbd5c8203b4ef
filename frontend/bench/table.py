"""A profile as text, and as JSON."""

from __future__ import annotations

import os
from collections.abc import Sequence

from dlc.frontend.bench.roofs import Roofs
from dlc.frontend.bench.rows import Profile, Row

HEAD = ("time", "share", "GFLOP/s", "of roof", "GB/s", "of roof", "busy", "times", "kernel")


def table(profile: Profile, roofs: Roofs) -> list[str]:
    """The rows, what is between them, and the sum."""
    cells = [HEAD, *(_cells(row, profile, roofs) for row in profile.rows)]
    rest = (_time(profile.between), _share(profile.between, profile.timed), *[""] * 6,
            "(between launches)")
    total = (_time(profile.timed), _share(profile.timed, profile.timed), *[""] * 5,
             _count(profile.launches), "all")
    cells += [rest, total]
    widths = [max(len(row[at]) for row in cells) for at in range(len(HEAD))]
    lines = [_line(row, widths) for row in cells]
    for at, row in enumerate(profile.rows, 1):
        if row.lines:
            lines[at] += f"  {short_lines(row.lines)}"
    return lines


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    *numbers, name = cells
    return "  ".join((*(cell.rjust(width) for cell, width in zip(numbers, widths, strict=False)),
                      name.ljust(widths[-1])))


def _cells(row: Row, profile: Profile, roofs: Roofs) -> tuple[str, ...]:
    return (
        _time(row.seconds), _share(row.seconds, profile.timed),
        _rate(row.operation_rate), _share(row.operation_rate, roofs.operations),
        _rate(row.byte_rate), _share(row.byte_rate, roofs.bytes),
        f"{row.busy / row.seconds:.2f}" if row.seconds else "", _count(row.turns), row.kernel)


def _time(seconds: float) -> str:
    return f"{seconds * 1e6:.{1 if seconds >= 1e-5 else 2}f} µs"


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.1%}" if part and whole else "-"


def _rate(value: float) -> str:
    return f"{value / 1e9:.1f}" if value else "-"


def _count(value: float) -> str:
    return f"{value:.4g}" if value != int(value) else str(int(value))


def short_lines(lines: Sequence[str]) -> str:
    """`a.dl:3,4,7-9 b.dl:1`, files by their last name."""
    files: dict[str, list[int]] = {}
    for line in lines:
        file, _, number = line.rpartition(":")
        files.setdefault(os.path.basename(file), []).append(int(number))
    return " ".join(f"{file}:{','.join(_runs(numbers))}" for file, numbers in files.items())


def _runs(numbers: Sequence[int]) -> list[str]:
    """Numbers in order, those that follow each other as `first-last`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return [f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs]


def memory_line(profile: Profile) -> str:
    """What the call keeps in memory, and how much passes between memory and kernels."""
    found = profile.memory
    return (f"memory: {_megabytes(profile.given)} of arguments, results and variables, "
            f"{_megabytes(found.arena)} between (at most {_megabytes(found.alive)} alive, with "
            f"results and stack); kernels read and write {_megabytes(profile.moved)}")


def _megabytes(count: float) -> str:
    return f"{count / 1e6:.3g} MB"


def as_json(profile: Profile, roofs: Roofs) -> dict[str, object]:
    """The profile: seconds, operations and bytes are of one call."""
    return {
        "seconds": profile.seconds, "fastest": profile.fastest, "timed": profile.timed,
        "between": profile.between, "launches": profile.launches, "barriers": profile.barriers,
        "bytes": profile.moved,
        "memory": {"given": profile.given, "arena": profile.memory.arena,
                   "results": profile.memory.results, "stack": profile.memory.stack,
                   "alive": profile.memory.alive},
        "roofs": {"operations": roofs.operations, "bytes": roofs.bytes, "how": roofs.how},
        "rows": [_row_json(row, profile, roofs) for row in profile.rows],
    }


def _row_json(row: Row, profile: Profile, roofs: Roofs) -> dict[str, object]:
    return {
        "kernel": row.kernel, "seconds": row.seconds, "share": row.seconds / profile.timed,
        "busy": row.busy, "launches": row.turns, "barriers": row.barriers,
        "operations": row.operations, "bytes": row.moved,
        "operations_per_second": row.operation_rate, "bytes_per_second": row.byte_rate,
        "of_operation_roof": row.operation_rate / roofs.operations,
        "of_byte_roof": row.byte_rate / roofs.bytes, "lines": list(row.lines),
    }
