"""The text form of Loops; `parse_loops(print_loops(f)) == f` (`loops_parse.py`).

    loops relu<N>(x: const f32, y: f32) chunks (N + 15) // 16 {
      alloc spare: f32[16] zeroed
      mask m: x16 = 16*chunk to N
      v: f32x16 = x[16*chunk] where m
      c: f32x16 = 0.0
      t: f32x16 = maximum(v, c)
      y[16*chunk]: f32x16 = t where m
    }

`f32x16` are sixteen lanes of f32. A call is an elementwise op; `of i64` follows where its operands
have another type than its result. The other statements:

    let at = chunk % 5                 let row = ids[at]: i32           (an index that is loaded)
    let row: i32 = v                                                    (a register as an index)
    i: i32x16 = index 16*chunk step 1  s: f32x16 = splat v              h: f32 = lanes add x16 v
    mask n: x16 = at - 1 to N from 0    (lanes below 0 are off too)     … alike    (all as one)
    e: f32x16 = exchange a, b by 4 lower                                (lanes 4 apart; upper)
    fetch x[16*chunk + 64]: f32                                         (to be read soon)
    if N - 1 >= 0 { … }
    r = for k = 0 to N step 2 carry a: f32 = zero { …  next b }         (`doubling` for a step of 0)
    for k = 0 to 8 unrolled { … }

Where a thread may run neighbouring chunks as one, up to as many as `… chunks 64 together 8 {` says,
these are those from `chunk` up to `chunk.after`.

On a GPU, many threads run a chunk: `… chunks 4 threads 256 {`, at sizes that are multiples perhaps:
`… threads 256 multiples N 4 {`. Then there are also

    alloc all: f32[256] shared     barrier     barrier warp     o: f32 = shuffle v by 16
    copy all[4*thread] = x[at]: f32x4 where m      copies end      copies wait 2
    w: i32x4 = matrices half[at]: bf16 turned      p: f32x4 = tensor w, z second plus s: bf16

and what groups of four warps do (`group_loops.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from dlc.ir.expression_text import attr_text
from dlc.ir.group_loops_text import GROUP_PRINTERS
from dlc.ir.loops import (
    Alloc,
    Apply,
    AsIndex,
    Barrier,
    Const,
    Copies,
    Copy,
    Exchange,
    Fetch,
    For,
    Fragments,
    If,
    IndexOf,
    LaneReduce,
    Let,
    Load,
    LoadIndex,
    LoopFunction,
    Mask,
    Matrices,
    Shuffle,
    Splat,
    Statement,
    Store,
    Tensor,
)
from dlc.ir.notation import value_text
from dlc.ir.tokens import joined, name_text, names_text
from dlc.ir.types import F32, DType


def print_loops(function: LoopFunction) -> str:
    """The text of a loop function."""
    symbols = f"<{names_text(function.symbols)}>" if function.symbols else ""
    pointers = [f"{name_text(p.name)}: {'' if p.writable else 'const '}{p.dtype}"
                for p in function.pointers]
    together = f" together {function.together}" if function.together != 1 else ""
    threads = f" threads {function.threads}" if function.threads != 1 else ""
    each = ", ".join(f"{name_text(name)} {number}" for name, number in function.multiples)
    multiples = f" multiples {each}" if each else ""
    head = joined(f"loops {name_text(function.name)}{symbols}(", pointers,
                  f") chunks {function.chunks}{together}{threads}{multiples} {{", "    ")
    return "\n".join([*head, *_block(function.body, "  "), "}"]) + "\n"


def _block(body: tuple[Statement, ...], indent: str) -> list[str]:
    lines: list[str] = []
    for statement in body:
        if isinstance(statement, For):
            lines += _for(statement, indent)
        elif isinstance(statement, If):
            conditions = ", ".join(f"{dim} >= 0" for dim in statement.conditions)
            lines.append(f"{indent}if {conditions}{' ' if conditions else ''}{{")
            lines += [*_block(statement.body, indent + "  "), f"{indent}}}"]
        else:
            lines.append(f"{indent}{_PRINTERS[type(statement)](statement)}")
    return lines


def _for(s: For, indent: str) -> list[str]:
    step = ""
    if s.step != 1:
        step = " doubling" if s.step == 0 else f" step {s.step}"
    if s.unrolled is not None:
        step += " unrolled" if s.unrolled else " rolled"
    carried = [f"{name_text(name)}: {kind_text(dtype, lanes)} = {name_text(first)}"
               for name, first, dtype, lanes in s.carried]
    head, wide = f"for {s.var} = {s.low} to {s.high}{step}", f"{indent}    "
    lines = [f"{indent}{head}"]
    if s.after:
        lines = joined(indent, list(map(name_text, s.after)), f" = {head}", wide)
    if carried:
        lines[-1:] = joined(f"{lines[-1]} carry ", carried, " {", wide)
    else:
        lines[-1] += " {"
    lines += _block(s.body, indent + "  ")
    if s.next:
        lines += joined(f"{indent}  next ", list(map(name_text, s.next)), "", f"{indent}    ")
    return [*lines, f"{indent}}}"]


def kind_text(dtype: DType, lanes: int) -> str:
    """`f32x16`, or `f32` for one lane."""
    return str(dtype) if lanes == 1 else f"{dtype}x{lanes}"


def _typed(name: str, dtype: DType, lanes: int, rest: str) -> str:
    return f"{name_text(name)}: {kind_text(dtype, lanes)} = {rest}"


def _masked(mask: str) -> str:
    return f" where {name_text(mask)}" if mask else ""


def _alloc(s: Alloc) -> str:
    how = " shared" if s.shared else " zeroed" if s.zeroed else ""
    return f"alloc {name_text(s.name)}: {s.dtype}[{s.size}]{how}"


def _mask(s: Mask) -> str:
    low = "" if s.low is None else f" from {s.low}"
    step = " alike" if s.step == 0 else ""
    return f"mask {name_text(s.name)}: x{s.lanes} = {s.base} to {s.bound}{low}{step}"


def _load(s: Load) -> str:
    place = f"{name_text(s.buffer)}[{s.offset}]{_masked(s.mask)}"
    return _typed(s.name, s.dtype, s.lanes, place)


def _store(s: Store) -> str:
    return (f"{name_text(s.buffer)}[{s.offset}]: {kind_text(s.dtype, s.lanes)} = "
            f"{name_text(s.value)}{_masked(s.mask)}")


def _fetch(s: Fetch) -> str:
    return f"fetch {name_text(s.buffer)}[{s.offset}]: {s.dtype}"


def _const(s: Const) -> str:
    return _typed(s.name, s.dtype, s.lanes, value_text(s.value))


def _index_of(s: IndexOf) -> str:
    step = f" step {s.step}" if s.step else ""
    return _typed(s.name, s.dtype, s.lanes, f"index {s.value}{step}")


def _splat(s: Splat) -> str:
    return _typed(s.name, s.dtype, s.lanes, f"splat {name_text(s.value)}")


def _apply(s: Apply) -> str:
    args = [*map(name_text, s.args), *(f"{name} = {attr_text(v)}" for name, v in s.attrs)]
    operand = "" if s.operand is s.dtype else f" of {s.operand}"
    return _typed(s.name, s.dtype, s.lanes, f"{name_text(s.op)}({', '.join(args)}){operand}")


def _lane_reduce(s: LaneReduce) -> str:
    return _typed(s.name, s.dtype, 1, f"lanes {s.op} x{s.lanes} {name_text(s.value)}")


def _exchange(s: Exchange) -> str:
    which = "upper" if s.upper else "lower"
    return _typed(s.name, s.dtype, s.lanes, f"exchange {name_text(s.first)},"
                  f" {name_text(s.second)} by {s.distance} {which}")


def _shuffle(s: Shuffle) -> str:
    return _typed(s.name, s.dtype, 1, f"shuffle {name_text(s.value)} by {s.distance}")


def _barrier(s: Barrier) -> str:
    return "barrier warp" if s.warp else "barrier"


def _copy(s: Copy) -> str:
    return (f"copy {name_text(s.buffer)}[{s.at}] = {name_text(s.source)}[{s.offset}]:"
            f" {kind_text(s.dtype, s.lanes)}{_masked(s.mask)}")


def _copies(s: Copies) -> str:
    return "copies end" if s.pending is None else f"copies wait {s.pending}"


def _matrices(s: Matrices) -> str:
    places = ", ".join(map(str, s.places))
    turned = " turned" if s.turned else ""
    return _typed(s.name, s.word, 4,
                  f"matrices {name_text(s.buffer)}[{places}]: {s.dtype}{turned}")


def _fragments(s: Fragments) -> str:
    values = ", ".join(map(name_text, s.values))
    return _typed(s.name, s.word, 4, f"fragments {values}: {s.dtype}")


def _tensor(s: Tensor) -> str:
    second = " second" if s.second else ""
    return _typed(s.name, F32, 4, f"tensor {name_text(s.left)}, {name_text(s.right)}{second} plus"
                  f" {name_text(s.sums)}: {s.dtype}")


def _let(s: Let) -> str:
    return f"let {s.name} = {s.value}"


def _load_index(s: LoadIndex) -> str:
    return f"let {s.name} = {name_text(s.buffer)}[{s.offset}]: {s.dtype}"


def _as_index(s: AsIndex) -> str:
    return f"let {s.name}: {s.dtype} = {name_text(s.value)}"


_PRINTERS: Final[dict[type, Callable[..., str]]] = {
    Alloc: _alloc, Mask: _mask, Load: _load, Store: _store, Const: _const, IndexOf: _index_of,
    Splat: _splat, Apply: _apply, LaneReduce: _lane_reduce, Let: _let, LoadIndex: _load_index,
    AsIndex: _as_index, Exchange: _exchange, Fetch: _fetch, Shuffle: _shuffle, Barrier: _barrier,
    Copy: _copy, Copies: _copies, Matrices: _matrices,
    Fragments: _fragments, Tensor: _tensor, **GROUP_PRINTERS,
}
