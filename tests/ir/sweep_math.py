"""How far functions are off: `python -m tests.ir.sweep_math [--write] [--every K] [FUNCTION...]`.

The machine code of each function in f32 is run on all 2**32 floats, denormals included and with
denormals kept, and held against NumPy in f64; the inputs that are off most are then held against
70 digits. --every K takes one float in K, at random, and the table says how many there were.
Functions of two operands get a random second one with each first one. In f64 it is
SAMPLES random floats of all magnitudes, held against `longdouble`. --write puts the table into
ACCURACY.md, where the tests of the functions find the worst inputs.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from dlc.ir.types import F32, F64, DType
from tests.compiler.scalar_runner import Compiled
from tests.ir.reference import exact, ulps

Array = np.ndarray[Any, Any]
CHUNK: Final = 1 << 21
SAMPLES: Final = 1 << 22
KEPT: Final = 24  # candidates of which the error is computed in 70 digits
TABLE: Final = Path(__file__).with_name("ACCURACY.md")
SMALLEST: Final = {F32: 2.0**-126, F64: 2.0**-1022}
MANTISSA: Final = {F32: 23, F64: 52}


def _sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def _erf(x: Array) -> Array:
    """NumPy has none: by the C library, and for f32 by our own in f64, which has a row itself."""
    if x.dtype == np.float64:
        return _compiled("erf", F64)(x)
    return np.vectorize(math.erf, otypes=[np.float64])(x).astype(x.dtype)


WIDE: Final[dict[str, Callable[..., Array]]] = {
    "exp": np.exp, "expm1": np.expm1, "log": np.log, "log1p": np.log1p, "tanh": np.tanh,
    "sigmoid": _sigmoid, "softplus": lambda x: np.logaddexp(x, 0),
    "log_sigmoid": lambda x: -np.logaddexp(-x, 0), "sin": np.sin, "cos": np.cos, "erf": _erf,
    "sqrt": np.sqrt, "rsqrt": lambda x: np.asarray(1 / np.sqrt(x)), "pow": np.power,
}


@dataclass(frozen=True, slots=True)
class Worst:
    """The largest error found, in ulp, and where."""

    units: float
    at: tuple[float, ...]
    inputs: int = 0


def errors(found: Array, right: Array) -> Array:
    """Errors in ulp where the result is a normal number, else 0 if it is as it should be.

    What is to be less than a normal number is that, and what is inf or nan the same: else inf.
    """
    smallest = float(np.finfo(found.dtype).tiny)
    with np.errstate(all="ignore"):
        rounded = right.astype(found.dtype)
        size = np.abs(rounded)
        units = np.abs(found - right) / _spacing(size)
        units[np.isnan(units)] = np.inf
        (odd,) = np.nonzero(~((size >= smallest) & (size < np.inf)))
        found, rounded = found[odd], rounded[odd]
        fine = np.where(np.abs(rounded) < smallest, np.abs(found) <= smallest, (
            found == rounded) | (np.isnan(found) & np.isnan(rounded)))
    units[odd] = np.where(fine, 0.0, np.inf)
    return units


def _spacing(size: Array) -> Array:
    """From one float to the next, for normal numbers."""
    bits, mask, mantissa = (np.uint32, 0x7F800000, 23) if size.dtype == np.float32 else (
        np.uint64, 0x7FF << 52, 52)
    powers: Array = (size.view(bits) & bits(mask)).view(size.dtype)
    return powers.astype(np.float64 if size.dtype == np.float32 else np.longdouble) * 2.0**-mantissa


def all_f32(count: int, every: int) -> Iterator[tuple[Array, ...]]:
    """All floats, or one in `every`, with as many random second operands as are wanted."""
    for first in range(0, (1 << 32) - (every - 1) * CHUNK, CHUNK * every):
        rng = np.random.default_rng(first)
        bits = np.arange(first, first + CHUNK * every, every, dtype=np.uint64)
        if every > 1:
            bits += rng.integers(0, every, CHUNK, dtype=np.uint64)
        x = bits.astype(np.uint32).view(np.float32)
        yield (x, *(rng.uniform(-1, 1, CHUNK).astype(np.float32) * np.float32(
            8.0 ** rng.integers(-2, 3)) for _ in range(count - 1)))


def some_f64(count: int) -> Iterator[tuple[Array, ...]]:
    """Floats of all magnitudes, and as many within 1000."""
    for seed in range(SAMPLES // CHUNK):
        rng = np.random.default_rng(seed)
        bits = rng.integers(0, 1 << 64, CHUNK // 2, dtype=np.uint64).view(np.float64)
        usual = rng.uniform(-1, 1, CHUNK // 2) * 10.0 ** rng.integers(-3, 4, CHUNK // 2)
        x = np.concatenate([bits, usual])
        yield (x, *(rng.uniform(-8, 8, CHUNK) for _ in range(count - 1)))


def candidates(name: str, dtype: DType, inputs: Iterator[tuple[Array, ...]]) -> list[Worst]:
    """The inputs that are off most, by NumPy in a wider type."""
    compiled = _compiled(name, dtype)
    wide: type = np.float64 if dtype is F32 else np.longdouble
    worst: list[Worst] = []
    for xs in inputs:
        with np.errstate(all="ignore"):
            off = errors(compiled(*xs), WIDE[name](*(x.astype(wide) for x in xs)))
        least = worst[-1].units if len(worst) == KEPT else -1.0
        places = np.nonzero(off > least)[0]
        for place in places[np.argsort(off[places])[-KEPT:]]:
            worst.append(Worst(float(off[place]), tuple(float(x[place]) for x in xs)))
        worst = sorted(worst, key=lambda w: -w.units)[:KEPT]
    return worst


def sweep(name: str, dtype: DType, every: int = 1) -> Worst:
    """The largest error of a function."""
    count = 2 if name == "pow" else 1
    inputs = all_f32(count, every) if dtype is F32 else some_f64(count)
    tried = (1 << 32) // (CHUNK * every) * CHUNK if dtype is F32 else SAMPLES
    found = candidates(name, dtype, inputs)
    if np.isinf(found[0].units):
        return found[0]
    return max((Worst(true_error(name, dtype, w.at), w.at, tried) for w in found),
               key=lambda w: w.units)


@cache
def _compiled(name: str, dtype: DType) -> Compiled:
    return Compiled(name, dtype)


def true_error(name: str, dtype: DType, at: tuple[float, ...]) -> float:
    """The error at one input, by 70 digits."""
    value = _compiled(name, dtype)(*(np.array([x], dtype.numpy) for x in at))
    return ulps(float(value[0]), exact(name, *at), MANTISSA[dtype], SMALLEST[dtype])


def read_table() -> dict[str, dict[DType, Worst]]:
    """What ACCURACY.md says."""
    rows: dict[str, dict[DType, Worst]] = {}
    if not TABLE.exists():
        return rows
    for line in TABLE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 7 and cells[0] in WIDE:
            rows[cells[0]] = {
                dtype: Worst(float(units), tuple(map(float.fromhex, at.split())),
                             int(inputs.replace(",", "")))
                for dtype, inputs, units, at in ((F32, *cells[1:4]), (F64, *cells[4:]))}
    return rows


def table(rows: dict[str, dict[DType, Worst]]) -> str:
    """ACCURACY.md."""
    lines = [__doc__.split("\n\n")[1].replace("\n", " "), "",
             "Errors are in units in the last place of the result, where that is a normal number.",
             "", "| function | f32 inputs | ulp | at | f64 inputs | ulp | at |",
             "|---|---|---|---|---|---|---|"]
    for name in WIDE:
        if name in rows:
            cells = [cell for dtype in (F32, F64) for cell in _cells(rows[name][dtype])]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    command = "Made by `python -m tests.ir.sweep_math --write`."
    return "\n".join(["# How far the functions are off", "", command, "", *lines, ""])


def _cells(worst: Worst) -> tuple[str, str, str]:
    return (f"{worst.inputs:,}", f"{worst.units:.4f}", " ".join(map(float.hex, worst.at)))


def main(arguments: list[str]) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("functions", nargs="*", default=list(WIDE), metavar="FUNCTION")
    parser.add_argument("--write", action="store_true", help="put the rows into ACCURACY.md")
    parser.add_argument("--every", type=int, default=1, metavar="K", help="one float in K")
    given = parser.parse_args(arguments)
    for name in given.functions:
        found = {dtype: sweep(name, dtype, given.every) for dtype in (F32, F64)}
        for dtype, worst in found.items():
            print(f"{name} {dtype}: {worst.units:.4f} ulp at {worst.at}", flush=True)
        if given.write:
            TABLE.write_text(table(read_table() | {name: found}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
