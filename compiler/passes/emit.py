"""emit: prints a program as a module of LLVM IR, and the manifest that says how to call it."""

from __future__ import annotations

from dataclasses import replace

from dlc.compiler.levels import Compiled
from dlc.compiler.llvm.entry import pointer_buffers
from dlc.compiler.llvm.program import Functions, emit_module
from dlc.compiler.llvm.target import target
from dlc.compiler.options import Options
from dlc.compiler.passes.name_sizes import SUFFIX
from dlc.compiler.passes.plan_memory import planned
from dlc.ir.dims import Atom, Dim, Factor, evaluate, substitute, symbol, symbols
from dlc.ir.graph import Loc
from dlc.ir.program import (
    Branch,
    Check,
    Launch,
    Loop,
    Print,
    Program,
    ProgramBuffer,
    each_step,
)

Json = dict[str, object]
ABI = 4
FEW = 3  # of a batch, that are computed by code for one
SOME = 4  # for which other code is made, where they would leave most lanes of a batch empty


def emit(program: Program, options: Options, functions: Functions | None = None) -> Compiled:
    """The module and the manifest; some of its `functions` may be there already."""
    kind = target(options.target, options.features)
    functions = functions or Functions(kind, brief=options.once)
    text, parts = emit_module(program, kind, functions, options.timed)
    return Compiled(text, manifest(program, options), parts)


def _as_callers_know(program: Program) -> Program:
    """A program with its sizes under the names that callers give them."""
    dims = names_of_callers(program)
    if not dims:
        return program
    names = {name: str(said) for name, said in dims.items()}
    return replace(
        program,
        symbols=tuple(names.get(s, s) for s in program.symbols),
        sizes=tuple(replace(s, name=names[s.name]) for s in program.sizes),
        buffers=tuple(replace(b, dims=tuple(substitute(d, dims) for d in b.dims))
                      for b in program.buffers),
        conditions=tuple(
            replace(c, left=substitute(c.left, dims), right=substitute(c.right, dims))
            for c in program.conditions))


def names_of_callers(program: Program) -> dict[str, Dim]:
    """The sizes of a program, and the symbols by which callers know them."""
    return {s.name: symbol(s.name.removesuffix(SUFFIX)) for s in program.sizes}


def manifest(program: Program, options: Options) -> Json:
    """What a caller must know of the code, as JSON."""
    batch = _batch(program, options)
    few = _few(program, batch, options)
    program = _as_callers_know(program)
    buffers = pointer_buffers(program)
    return {
        "abi": ABI, "name": program.name, "entry": "dlc_entry", "layout": "dlc_layout",
        "symbols": list(program.symbols),
        "sizes": [{"name": s.name, "place": s.place, "default": s.default}
                  for s in program.sizes],
        "inputs": [_tensor(b) for b in buffers if b.kind == "in"],
        "outputs": [_tensor(b) for b in buffers if b.kind == "out"],
        "variables": _variables(program, [b for b in buffers if b.kind == "var"]),
        "random": any(b.kind == "random" for b in program.buffers),
        "buffers": len(buffers), "offsets": 1 + len(planned(program)),
        "conditions": [
            {"lhs": dim_json(c.left), "op": c.relation, "rhs": dim_json(c.right), "text": c.text}
            for c in program.conditions],
        "checks": _checks(program),
        "launches": [{"name": s.kernel, "locations": [place(loc) for loc in s.locs]}
                     for s in each_step(program.steps) if isinstance(s, Launch)],
        "prints": _prints(program),
        "batch": batch, "few": few, "in_lanes": _in_lanes(program),
        "watched": any(isinstance(s, Loop) for s in each_step(program.steps)),
    }


def _batch(program: Program, options: Options) -> str:
    """The leading dim of an argument with which most of the likely work grows, turn by turn aside;
    "" if there is none, or where few of it are likely anyway."""
    sizes = {name: options.hint(name) for name in program.symbols}
    costs = {name: schedule.cost for name, schedule in program.schedules}
    kernels = {kernel.name: kernel.symbols for kernel in program.kernels}
    launches = [s for s in each_step(program.steps) if isinstance(s, Launch)]

    def total(env: dict[str, int]) -> int:
        found = 0
        for launch in launches:
            known = {n: 1 for dim in launch.dims for n in symbols(dim)} | env
            own = {n: evaluate(dim, known) for n, dim in zip(
                kernels[launch.kernel], launch.dims, strict=True)}
            found += evaluate(costs.get(launch.kernel, 0), own)
        return found

    before = total(sizes)
    turns = {n for s in each_step(program.steps) if isinstance(s, Loop) for n in symbols(s.count)}
    for buffer in program.buffers:
        name = str(buffer.dims[0]) if buffer.kind == "in" and buffer.dims else ""
        if name in sizes and name not in turns and sizes[name] >= options.lanes and (
                total(sizes | {name: 2 * sizes[name]}) > 1.5 * before):
            return name
    return ""


def _in_lanes(program: Program) -> bool:
    """Whether values lie with a batch in the lanes: as neighbours, in blocks."""
    return any(bool(symbols(b.dims[b.layout.full(len(b.dims))[-1][0]]))
               for b in program.buffers if not b.layout.is_row_major)


def _few(program: Program, batch: str, options: Options) -> list[tuple[int, int]]:
    """Up to how many of a batch code of their own is made for, and for how many it is made."""
    part = options.lanes // 4
    some = [(part, SOME)] if part > FEW and _in_lanes(program) else []
    return [(FEW, 1), *some] if batch else []


def _tensor(buffer: ProgramBuffer) -> Json:
    inside = ", ".join(map(str, buffer.dims))
    text = f"{buffer.dtype}[{inside}]" if buffer.dims else str(buffer.dtype)
    fields: Json = {"dtype": buffer.dtype.name, "dims": [dim_json(d) for d in buffer.dims],
                    "text": text}
    if buffer.kind == "in":
        return {"name": buffer.name, **fields, "default": buffer.default}
    return fields


def _variables(program: Program, variables: list[ProgramBuffer]) -> list[Json]:
    read, written = _uses(program)
    return [{
        "name": b.name, "dtype": b.dtype.name, "dims": list(b.dims),
        "digits": None if b.layout.is_row_major else [list(digit) for digit in b.layout.digits],
        "read": b.name in read, "written": b.name in written,
    } for b in variables]


def _uses(program: Program) -> tuple[set[str], set[str]]:
    """The names of the buffers that launches read, and of those that they write."""
    roots = {b.name: b.alias_of or b.name for b in program.buffers}
    kernels = {kernel.name: kernel for kernel in program.kernels}
    read: set[str] = set()
    written: set[str] = set()
    for step in each_step(program.steps):
        match step:
            case Check():
                read |= {roots[name] for name in (step.buffer, step.value) if name}
            case Print():
                read |= {roots[name] for name in step.buffers}
            case Branch() | Loop():
                read |= {roots[name] for name in (step.condition,) if name}
            case Launch():
                for param, name in zip(kernels[step.kernel].params, step.buffers, strict=True):
                    if param.role in ("in", "inout"):
                        read.add(roots[name])
                    if param.role != "in":
                        written.add(roots[name])
    return read, written


def _checks(program: Program) -> list[Json]:
    """The checks by code, which counts from 1; a code that no check has is left blank."""
    found = {step.code: step for step in each_step(program.steps) if isinstance(step, Check)}
    return [_check(found.get(code)) for code in range(1, max(found, default=0) + 1)]


def _check(step: Check | None) -> Json:
    if step is None:
        return {"text": "", "location": ""}
    return {"text": step.text, "location": place(users_place(step.locs[0])) if step.locs else ""}


def users_place(loc: Loc) -> Loc:
    """The place in a file of the user's from which a place in the library was reached."""
    step: Loc | None = loc
    while step is not None:
        if not step.file.startswith("<"):
            return step
        step = step.caller
    return loc


def _prints(program: Program) -> list[Json]:
    """The prints by code: the texts round what is printed, and the type of each buffer."""
    found = [step for step in each_step(program.steps) if isinstance(step, Print)]
    return [_print(program, step) for step in sorted(found, key=lambda step: step.code)]


def _print(program: Program, step: Print) -> Json:
    buffers = [program.buffer(name) for name in step.buffers]
    return {"parts": list(step.parts), "dtypes": [b.dtype.name for b in buffers],
            "ranks": [len(b.dims) for b in buffers]}


def place(loc: Loc) -> str:
    """A location without the calls that led there."""
    return f"{loc.file}:{loc.line}:{loc.column}"


def dim_json(dim: Dim) -> object:
    """A dim as the manifest writes it: a number, a symbol, or `[operator, left, right]`."""
    if isinstance(dim, int):
        return dim
    total: object = None
    for monomial, number in dim.terms:
        factors = [_factor_json(f) for f, power in monomial for _ in range(power)]
        size = abs(number)
        term = _fold("*", [*([size] if size != 1 or not factors else []), *factors])
        if total is None:
            total = term if number > 0 else ["-", 0, term]
        else:
            total = ["+" if number > 0 else "-", total, term]
    return total


def _factor_json(factor: Factor) -> object:
    if isinstance(factor, str):
        return factor
    assert isinstance(factor, Atom)
    return [factor.kind, dim_json(factor.left), dim_json(factor.right)]


def _fold(op: str, parts: list[object]) -> object:
    total = parts[0]
    for part in parts[1:]:
        total = [op, total, part]
    return total
