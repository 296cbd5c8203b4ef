"""Hand-written compiled functions for the tests: LLVM IR for the entry, and a manifest."""

from __future__ import annotations

from typing import Any

from dlc.runtime import jit
from dlc.runtime.artifact import Artifact
from tests.runtime.jobs import LEAVE

# Offsets in the context: dims 8, pointers 16, arena 32, pool 40, random 48, status 56, offsets 64.
FIELDS = {"dims": 8, "pointers": 16, "arena": 32, "pool": 40, "random": 48, "status": 56}


def context_loads(*fields: str) -> str:
    """IR that loads fields of the context as `%field`."""
    return "".join(
        f"  %{field}.at = getelementptr i8, ptr %ctx, i64 {FIELDS[field]}\n"
        f"  %{field} = load ptr, ptr %{field}.at\n"
        for field in fields
    )


def pointer_loads(*names: str) -> str:
    """IR that loads the first pointers as `%name`."""
    return "".join(
        f"  %{name}.at = getelementptr ptr, ptr %pointers, i64 {at}\n"
        f"  %{name} = load ptr, ptr %{name}.at\n"
        for at, name in enumerate(names)
    )


def layout_ir(bytes_per_row: int = 64) -> str:
    """`dlc_layout` for an arena of that many bytes times the first symbol."""
    return f"""
define void @dlc_layout(ptr %dims, ptr %offsets) {{
  %n = load i64, ptr %dims
  %size = mul i64 %n, {bytes_per_row}
  store i64 %size, ptr %offsets
  ret void
}}
"""


def tensor(name: str, dtype: str, *dims: Any, default: float | None = None) -> dict[str, Any]:
    """One entry of `inputs` or `outputs`."""
    text = f"{dtype}[{', '.join(map(str, dims))}]" if dims else dtype
    return {"name": name, "dtype": dtype, "dims": list(dims), "default": default, "text": text}


def variable(name: str, dtype: str, *dims: int, digits: Any = None, written: bool = True) -> Any:
    """One entry of `variables`."""
    return {"name": name, "dtype": dtype, "dims": list(dims), "digits": digits,
            "read": True, "written": written}  # fmt: skip


def make(name: str, entry: str, **fields: Any) -> Artifact:
    """An artifact whose `dlc_entry` has the body `entry`; `fields` go into the manifest."""
    manifest: dict[str, Any] = {
        "abi": 4, "name": name, "entry": "dlc_entry", "layout": "dlc_layout", "symbols": [],
        "inputs": [], "outputs": [], "variables": [], "random": False, "offsets": 1,
        "conditions": [], "checks": [], "launches": [], "prints": [], "sizes": [],
        "watched": False,
    } | fields  # fmt: skip
    lists = ("inputs", "outputs", "variables")
    manifest["buffers"] = sum(len(manifest[each]) for each in lists)
    layout = layout_ir() if manifest["symbols"] else _NO_ARENA
    return Artifact(manifest, jit.compile_text(entry + layout))


_NO_ARENA = """
define void @dlc_layout(ptr %dims, ptr %offsets) {
  store i64 0, ptr %offsets
  ret void
}
"""


def double(offset: int = 0) -> Artifact:
    """`double(x: f32[N], scale: f32 = 2) -> f32[N]`: x * scale, of what lies `offset` further."""
    entry = f"""
define void @dlc_entry(ptr %ctx) {{
start:
{context_loads("dims", "pointers")}{pointer_loads("x", "scale", "y")}
  %n = load i64, ptr %dims
  %factor = load float, ptr %scale
  br label %loop
loop:
  %i = phi i64 [0, %start], [%next, %loop]
  %place = add i64 %i, {offset}
  %from = getelementptr float, ptr %x, i64 %place
  %to = getelementptr float, ptr %y, i64 %i
  %value = load float, ptr %from
  %result = fmul float %value, %factor
  store float %result, ptr %to
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %n
  br i1 %more, label %loop, label %done
done:
  ret void
}}
"""
    return make(
        "double", entry, symbols=["N"],
        inputs=[tensor("x", "f32", "N"), tensor("scale", "f32", default=2.0)],
        outputs=[tensor("", "f32", "N")],
    )  # fmt: skip


def count(interrupt: bool = False) -> Artifact:
    """`count(limit: i64) -> (i64, f32)` over variable `steps: i64`, which it adds 1 to.

    Check 1 fails where `steps` has reached `limit`; the f32 is the call number of the random state.
    With `interrupt` it sends this process SIGINT, as Ctrl-C does, while it runs.
    """
    signal = "%sent = call i32 @raise(i32 2)" if interrupt else ""
    entry = f"""
declare i32 @raise(i32)
define void @dlc_entry(ptr %ctx) {{
{context_loads("pointers", "status", "random")}{pointer_loads("limit", "old", "call", "steps")}
  %most = load i64, ptr %limit
  %now = load i64, ptr %steps
  %next = add i64 %now, 1
  %call.from = getelementptr i64, ptr %random, i64 1
  %number = load i64, ptr %call.from
  %float = sitofp i64 %number to float
  %full = icmp sge i64 %now, %most
  br i1 %full, label %fail, label %well
fail:
  store i64 1, ptr %status
  %value = getelementptr i64, ptr %status, i64 1
  store i64 %now, ptr %value
  ret void
well:
  {signal}
  store i64 %next, ptr %steps
  store i64 %now, ptr %old
  store float %float, ptr %call
  ret void
}}
"""
    return make(
        "count", entry, random=True,
        inputs=[tensor("limit", "i64")],
        outputs=[tensor("", "i64"), tensor("", "f32")],
        variables=[variable("steps", "i64")],
        checks=[{"text": "steps stays below limit, not {value}", "location": "count.dl:3:5"}],
    )  # fmt: skip


def shared() -> Artifact:
    """`shared(x: f32[N]) -> f32[N]`: x + x, one chunk an element, on the pool."""
    entry = LEAVE + f"""
define void @chunk(ptr %pointers, i64 %i) {{
start:
{pointer_loads("x", "y")}
  %from = getelementptr float, ptr %x, i64 %i
  %to = getelementptr float, ptr %y, i64 %i
  %value = load float, ptr %from
  %sum = fadd float %value, %value
  br label %spin
spin:
  %turn = phi i64 [0, %start], [%next, %spin]
  %next = add i64 %turn, 1
  call void asm sideeffect "", ""()
  %more = icmp slt i64 %next, 5000
  br i1 %more, label %spin, label %end
end:
  store float %sum, ptr %to
  ret void
}}
define void @dlc_entry(ptr %ctx) {{
{context_loads("dims", "pointers", "pool")}
  %n = load i64, ptr %dims
  %parallel = load ptr, ptr %pool
  %owned = call i64 %parallel(ptr %pool, i64 0, ptr @chunk, ptr %pointers, i64 %n, i64 1000000000)
  call void @leave(ptr %pool, i64 %owned)
  ret void
}}
"""
    return make(
        "shared", entry, symbols=["N"],
        inputs=[tensor("x", "f32", "N")], outputs=[tensor("", "f32", "N")],
    )  # fmt: skip


def add_to_weights() -> Artifact:
    """`learn(x: f32[4])` over `w: f32[4]`: w[i] = 2 * x[3 - i], for one i after another.

    Where `x` lies in `w` itself, later elements would see earlier results.
    """
    steps = "".join(
        f"""
  %x{i}.at = getelementptr float, ptr %x, i64 {3 - i}
  %w{i}.at = getelementptr float, ptr %w, i64 {i}
  %x{i} = load float, ptr %x{i}.at
  %two{i} = fadd float %x{i}, %x{i}
  store float %two{i}, ptr %w{i}.at"""
        for i in range(4)
    )
    entry = f"""
define void @dlc_entry(ptr %ctx) {{
{context_loads("pointers")}{pointer_loads("x", "w")}{steps}
  ret void
}}
"""
    return make(
        "learn", entry, inputs=[tensor("x", "f32", 4)], variables=[variable("w", "f32", 4)]
    )  # fmt: skip


def scratch() -> Artifact:
    """`scratch(x: i64[N]) -> i64`: the first element, by way of the last bytes of the arena."""
    entry = f"""
define void @dlc_entry(ptr %ctx) {{
{context_loads("dims", "pointers", "arena")}{pointer_loads("x", "y")}
  %n = load i64, ptr %dims
  %rows = mul i64 %n, 64
  %last = sub i64 %rows, 8
  %place = getelementptr i8, ptr %arena, i64 %last
  %value = load i64, ptr %x
  %address = ptrtoint ptr %arena to i64
  %off = and i64 %address, 63
  %sum = add i64 %value, %off
  store i64 %sum, ptr %place
  %kept = load volatile i64, ptr %place
  store i64 %kept, ptr %y
  ret void
}}
"""
    return make(
        "scratch", entry, symbols=["N"],
        inputs=[tensor("x", "i64", "N")], outputs=[tensor("", "i64")],
    )  # fmt: skip


def nothing(**fields: Any) -> Artifact:
    """A function that does nothing; `fields` go into its manifest."""
    return make("fit", "define void @dlc_entry(ptr %ctx) {\n  ret void\n}\n", **fields)
