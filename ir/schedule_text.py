"""The text form of a Schedule, and back: `parse_schedule(print_schedule(s)) == s`.

    schedule conv_tanh for x86-64-v4 {
      order n, o, v, u
      parallel 1
      chunks min(N, 64)
      vector u 16
      tiles o 6, v 2
      reduce r, s
      unroll s
      block 16
      blocks (N + 127) // 128
      outside 1
      panel w 512
      edge u mask, v clamp
      cost 2100
    }

    schedule softmax for "cuda:sm_80" {
      order n
      parallel 1
      chunks (N + 7) // 8
      vector k 4
      reduce k
      sweep 1
      threads 256
      group 32
      held 8
    }

A product by way of shared memory has, after `threads`, the indices of its rows and columns, and
`shared 16, 16, 4, 4, 8, 1, 0, 2`: rows and columns of threads, results of each down and across, the
depth, the slices of the sum, the reduced indices outside. On tensor cores it is `tensor bf16 2, 4,
4, 4, 32, 3, 0, 8, 8`: the type of elements, rows and columns of warps, matrices of each down and
across, the depth, the stages, the reduced indices outside, how many elements are copied at once.
A chain of products there has its rows and `chain bf16 4, 1, 2, 8, 8, 8`: warps, matrices of each
down, the stages, and how many elements of each factor are copied at once. By warp groups a product
has `grouped bf16 2, 1, 256, 4, 0, 8`: groups, times 64 rows of each, columns, stages, the reduced
indices outside, the rows of tiles in a band.

What has its default is left out. The name is that of the kernel, which a program keeps.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final, get_args

from dlc.ir.dims import Dim
from dlc.ir.notation import quoted
from dlc.ir.schedule import (
    ChainTile,
    Edge,
    GroupTile,
    Multiples,
    Schedule,
    SharedTile,
    TensorTile,
    Tile,
)
from dlc.ir.tokens import Scanner, joined, name_text

_EDGES: Final[dict[str, Edge]] = {name: name for name in get_args(Edge)}
_TARGET = re.compile(r"[A-Za-z_][\w.\-]*")


def print_schedule(schedule: Schedule, name: str = "") -> str:
    """The text of a schedule, for the kernel called `name`."""
    target = schedule.target if _TARGET.fullmatch(schedule.target) else quoted(schedule.target)
    vector = schedule.vector or schedule.lanes != 1
    parts: tuple[tuple[str, list[str]], ...] = (
        ("order", list(map(name_text, schedule.order))),
        ("parallel", [str(schedule.parallel)] if schedule.parallel else []),
        ("chunks", [str(schedule.chunks)] if schedule.chunks != 1 else []),
        ("vector", [f"{name_text(schedule.vector)} {schedule.lanes}"] if vector else []),
        ("tiles", [f"{name_text(t.index)} {t.size}" for t in schedule.tiles]),
        ("reduce", list(map(name_text, schedule.reduce))),
        ("unroll", list(map(name_text, schedule.unroll))),
        ("turn", [name_text(schedule.turn)] if schedule.turn else []),
        ("along", [name_text(schedule.along)] if schedule.along else []),
        ("block", [str(schedule.block)] if schedule.block else []),
        ("blocks", [str(schedule.blocks)] if schedule.blocks != 0 else []),
        ("outside", [str(schedule.outside)] if schedule.outside else []),
        ("within", [str(schedule.within)] if schedule.within else []),
        ("panel", [f"{name_text(schedule.panel)} {schedule.depth}"] if schedule.panel else []),
        ("ahead", [str(schedule.ahead)] if schedule.ahead else []),
        ("edge", [f"{name_text(index)} {edge}" for index, edge in schedule.edge]),
        ("cost", [str(schedule.cost)] if schedule.cost != 0 else []),
        ("sweep", [str(schedule.sweep)] if schedule.sweep else []),
        ("moments", [str(schedule.moments)] if schedule.moments else []),
        ("together", [str(schedule.together)] if schedule.together != 1 else []),
        ("part", [str(schedule.part)] if schedule.part else []),
        ("depth", [str(schedule.depth)] if schedule.depth and not schedule.panel else []),
        ("fetch", list(map(name_text, schedule.fetch))),
        ("threads", [str(schedule.threads)] if schedule.threads else []),
        ("group", [str(schedule.group)] if schedule.group != 1 else []),
        ("beside", [str(schedule.beside)] if schedule.beside else []),
        ("held", [str(schedule.held)] if schedule.held else []),
        ("places", [str(schedule.places)] if schedule.places != 1 else []),
        ("multiples", [f"{name_text(name)} {number}" for name, number in schedule.multiples]),
        *_shared_lines(schedule.shared),
        *_tensor_lines(schedule.tensor),
        *_chain_lines(schedule.chain),
        *_grouped_lines(schedule.grouped),
    )
    lines = [f"schedule {name_text(name)} for {target} {{"]
    for word, items in parts:
        lines += joined(f"  {word} ", items, "", "    ") if items else []
    return "\n".join([*lines, "}"]) + "\n"


def _shared_lines(tile: SharedTile | None) -> tuple[tuple[str, list[str]], ...]:
    """`rows i0, i2` … of a tile in shared memory: its indices, then its sizes."""
    if tile is None:
        return ()
    sizes = (tile.rows_of_threads, tile.columns_of_threads, tile.down, tile.across, tile.depth,
             tile.slices, tile.outside, tile.stages)
    return (("rows", list(map(name_text, tile.rows))),
            ("columns", list(map(name_text, tile.columns))), ("shared", list(map(str, sizes))))


def _tensor_lines(tile: TensorTile | None) -> tuple[tuple[str, list[str]], ...]:
    if tile is None:
        return ()
    first, *sizes = (tile.warps_down, tile.warps_across, tile.down, tile.across, tile.depth,
                     tile.stages, tile.outside, tile.left, tile.right)
    return (("rows", list(map(name_text, tile.rows))),
            ("columns", list(map(name_text, tile.columns))),
            ("tensor", [f"{tile.dtype} {first}", *map(str, sizes)]))


def _chain_lines(tile: ChainTile | None) -> tuple[tuple[str, list[str]], ...]:
    if tile is None:
        return ()
    sizes = (tile.down, tile.stages, *tile.copied)
    return (("rows", list(map(name_text, tile.rows))),
            ("chain", [f"{tile.dtype} {tile.warps}", *map(str, sizes)]))


def _grouped_lines(tile: GroupTile | None) -> tuple[tuple[str, list[str]], ...]:
    if tile is None:
        return ()
    sizes = (tile.down, tile.width, tile.stages, tile.outside, tile.band)
    return (("rows", list(map(name_text, tile.rows))),
            ("columns", list(map(name_text, tile.columns))),
            ("grouped", [f"{tile.dtype} {tile.groups}", *map(str, sizes)]))


def parse_schedule(text: str) -> Schedule:
    """The schedule that `text` writes down; TextError for anything else."""
    scan = Scanner(text)
    _, schedule = read_schedule(scan)
    scan.end()
    return schedule


def read_schedule(scan: Scanner) -> tuple[str, Schedule]:
    """The schedule that comes next, and the name of its kernel."""
    read = _ScheduleParser(scan)
    scan.expect("schedule")
    name = scan.name()
    scan.expect("for")
    target = read.target()
    scan.expect("{")
    order, parallel, chunks = read.names("order"), read.integer("parallel"), read.dim("chunks", 1)
    (vector, lanes), tiles, reduce = read.vector(), read.tiles(), read.names("reduce")
    unroll, turn, along = read.names("unroll"), read.name("turn"), read.name("along")
    block, blocks = read.integer("block"), read.dim("blocks", 0)
    outside, within = read.integer("outside"), read.integer("within")
    (panel, depth), ahead = read.panel(), read.integer("ahead")
    schedule = Schedule(
        target, order, parallel, chunks, vector, lanes, tiles, reduce, unroll, turn, block,
        blocks, outside, within, panel, depth, ahead, read.edges(), read.dim("cost", 0),
        along, read.integer("sweep"), read.integer("moments"),
        read.integer("together", 1), read.integer("part"))
    schedule = replace(
        schedule, depth=depth or read.integer("depth"), fetch=read.names("fetch"),
        threads=read.integer("threads"), group=read.integer("group", 1),
        beside=read.integer("beside"), held=read.integer("held"),
        places=read.integer("places", 1), multiples=read.multiples())
    schedule = read.tile(schedule)
    scan.expect("}")
    return name, schedule


class _ScheduleParser:
    """Reads the lines of a schedule; each may be missing."""

    def __init__(self, scanner: Scanner) -> None:
        self.scan = scanner

    def target(self) -> str:
        """A CPU as LLVM names it; hyphens part tokens, but no names."""
        scan = self.scan
        if scan.kind == "string":
            return scan.string()
        first = scan.tokens[scan.at][2]
        while scan.word != "{" and scan.kind != "end":
            scan.at += 1
        found = scan.text[first:scan.tokens[scan.at][2]].strip()
        if not _TARGET.fullmatch(found):
            scan.fail(f"{found!r} is no target", first)
        return found

    def names(self, word: str) -> tuple[str, ...]:
        """`order n, o`"""
        return self.scan.items(self.scan.name) if self.scan.take(word) else ()

    def name(self, word: str) -> str:
        """`turn n`"""
        return self.scan.name() if self.scan.take(word) else ""

    def integer(self, word: str, default: int = 0) -> int:
        """`parallel 2`"""
        return self.scan.integer() if self.scan.take(word) else default

    def dim(self, word: str, default: int) -> Dim:
        """`cost N*K // 51`"""
        return self.scan.dim() if self.scan.take(word) else default

    def vector(self) -> tuple[str, int]:
        """`vector u 16`"""
        return self._sized() if self.scan.take("vector") else ("", 1)

    def tiles(self) -> tuple[Tile, ...]:
        """`tiles o 6, v 2`"""
        return self.scan.items(lambda: Tile(*self._sized())) if self.scan.take("tiles") else ()

    def multiples(self) -> Multiples:
        """`multiples K 8, N 8`"""
        return self.scan.items(self._sized) if self.scan.take("multiples") else ()

    def panel(self) -> tuple[str, int]:
        """`panel w 512`"""
        return self._sized() if self.scan.take("panel") else ("", 0)

    def tile(self, schedule: Schedule) -> Schedule:
        """`rows i columns j shared 16, 16, 4, 4, 16, 1, 0, 2`, or a tile on tensor cores"""
        rows, columns = self.names("rows"), self.names("columns")
        if self.scan.take("shared"):
            return replace(schedule, shared=SharedTile(rows, columns, *self._sizes(8)))
        if self.scan.take("tensor"):
            return replace(schedule, tensor=TensorTile(
                rows, columns, self.scan.dtype(), *self._sizes(9)))
        if self.scan.take("grouped"):
            return replace(schedule, grouped=GroupTile(
                rows, columns, self.scan.dtype(), *self._sizes(6)))
        if self.scan.take("chain"):
            dtype, sizes = self.scan.dtype(), self.scan.items(self.scan.integer)
            if len(sizes) < 3:
                self.scan.fail("a chain has warps, matrices of each, and stages")
            warps, down, stages, *copied = sizes
            return replace(schedule, chain=ChainTile(
                rows, dtype, warps, down, stages, tuple(copied)))
        return schedule

    def _sizes(self, count: int) -> tuple[int, ...]:
        sizes = self.scan.items(self.scan.integer)
        if len(sizes) != count:
            self.scan.fail(f"such a tile has {count} sizes, not {len(sizes)}")
        return sizes

    def edges(self) -> tuple[tuple[str, Edge], ...]:
        """`edge u mask, v clamp`"""
        return self.scan.items(self._edge) if self.scan.take("edge") else ()

    def _sized(self) -> tuple[str, int]:
        return self.scan.name(), self.scan.integer()

    def _edge(self) -> tuple[str, Edge]:
        name = self.scan.name()
        if self.scan.word not in _EDGES:
            self.scan.fail(f"expected one of {', '.join(_EDGES)}, found {self.scan.word!r}")
        return name, _EDGES[self.scan.next("word")]
