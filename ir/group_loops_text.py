"""The text form of what warp groups do (`group_loops.py`), and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from dlc.ir.dims import Dim
from dlc.ir.group_loops import (
    Arrive,
    Await,
    CopyBox,
    Factor,
    GroupStatement,
    Multiplied,
    Multiply,
    Registers,
    Signals,
    View,
)
from dlc.ir.tokens import Scanner, name_text


def _listed(dims: tuple[object, ...]) -> str:
    return ", ".join(map(str, dims))


def _view(s: View) -> str:
    return (f"view {name_text(s.name)}: {s.dtype} = {name_text(s.buffer)}[{s.offset}]"
            f" sizes {_listed(s.sizes)} steps {_listed(s.steps)} box {_listed(s.box)}")


def _signals(s: Signals) -> str:
    return f"signals {name_text(s.name)}: {s.count} of {s.arrivals}"


def _arrive(s: Arrive) -> str:
    expected = f" with {s.bytes}" if s.bytes else ""
    return f"arrive {name_text(s.signals)}[{s.at}]{expected}"


def _await(s: Await) -> str:
    return f"await {name_text(s.signals)}[{s.at}] phase {s.phase}"


def _box(s: CopyBox) -> str:
    return (f"box {name_text(s.buffer)}[{s.at}] = {name_text(s.view)}[{_listed(s.place)}]:"
            f" {name_text(s.signals)}[{s.signal}]")


def _factor(f: Factor) -> str:
    return f"{name_text(f.buffer)}[{f.at}]{' turned' if f.turned else ''}"


def _multiply(s: Multiply) -> str:
    return (f"multiply {name_text(s.sums)}[{s.at}] = {_factor(s.left)}, {_factor(s.right)}:"
            f" {s.dtype} {s.columns} of {s.depth}")


def _multiplied(s: Multiplied) -> str:
    return f"multiplied {s.pending}"


def _registers(s: Registers) -> str:
    return f"registers {s.count} {'more' if s.more else 'fewer'}"


GROUP_PRINTERS: Final[dict[type, Callable[..., str]]] = {
    View: _view, Signals: _signals, Arrive: _arrive, Await: _await, CopyBox: _box,
    Multiply: _multiply, Multiplied: _multiplied, Registers: _registers,
}


def read_group_statement(scan: Scanner) -> GroupStatement | None:
    """The statement that comes next, if it is one of these."""
    reader = _READERS.get(scan.word)
    if reader is None or scan.after in (":", "[", ",", "="):
        return None
    scan.next("word")
    return reader(scan)


def _element(scan: Scanner) -> tuple[str, Dim]:
    """`name[place]`"""
    name = scan.name()
    scan.expect("[")
    place = scan.dim()
    scan.expect("]")
    return name, place


def _read_view(scan: Scanner) -> View:
    name = scan.name()
    scan.expect(":")
    dtype = scan.dtype()
    scan.expect("=")
    buffer, offset = _element(scan)
    scan.expect("sizes")
    sizes = scan.items(scan.dim)
    scan.expect("steps")
    steps = scan.items(scan.dim)
    scan.expect("box")
    return View(name, buffer, offset, dtype, sizes, steps, scan.items(scan.integer))


def _read_signals(scan: Scanner) -> Signals:
    name = scan.name()
    scan.expect(":")
    count = scan.integer()
    scan.expect("of")
    return Signals(name, count, scan.integer())


def _read_arrive(scan: Scanner) -> Arrive:
    signals, at = _element(scan)
    return Arrive(signals, at, scan.integer() if scan.take("with") else 0)


def _read_await(scan: Scanner) -> Await:
    signals, at = _element(scan)
    scan.expect("phase")
    return Await(signals, at, scan.dim())


def _read_box(scan: Scanner) -> CopyBox:
    buffer, at = _element(scan)
    scan.expect("=")
    view = scan.name()
    place = scan.bracketed("[", "]", scan.dim)
    scan.expect(":")
    return CopyBox(buffer, at, view, place, *_element(scan))


def _read_factor(scan: Scanner) -> Factor:
    return Factor(*_element(scan), scan.take("turned"))


def _read_multiply(scan: Scanner) -> Multiply:
    sums = scan.name()
    scan.expect("[")
    at = scan.integer()
    scan.expect("]")
    scan.expect("=")
    left = _read_factor(scan)
    scan.expect(",")
    right = _read_factor(scan)
    scan.expect(":")
    dtype, columns = scan.dtype(), scan.integer()
    scan.expect("of")
    return Multiply(sums, at, left, right, columns, scan.integer(), dtype)


def _read_multiplied(scan: Scanner) -> Multiplied:
    return Multiplied(scan.integer())


def _read_registers(scan: Scanner) -> Registers:
    count, more = scan.integer(), scan.take("more")
    if not more:
        scan.expect("fewer")
    return Registers(count, more)


_READERS: Final[dict[str, Callable[[Scanner], GroupStatement]]] = {
    "view": _read_view, "signals": _read_signals, "arrive": _read_arrive, "await": _read_await,
    "box": _read_box, "multiply": _read_multiply, "multiplied": _read_multiplied,
    "registers": _read_registers,
}
