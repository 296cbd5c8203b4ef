"""Two small kernels that show what a machine can do, to measure other kernels against.

`multiply(args, chunk)`: fused multiply-adds alone, in as many accumulators as there are registers
to spare. `copy(args, chunk)`: memory to memory, past the caches. Both are chunks as of any kernel,
`args` a block of 8-byte slots.
"""

from __future__ import annotations

from dlc.compiler.llvm.target import Target, compile_module
from dlc.compiler.llvm.text import suffix, vector
from dlc.ir.dataclass import dataclass
from dlc.ir.types import F32

SPARE = 8  # registers that are no accumulators
UNROLLED = 4  # vectors a turn of a copy


@dataclass(frozen=True, slots=True)
class RoofCode:
    """Object code of the two kernels, and what a turn of each does."""

    code: bytes
    accumulators: int
    lanes: int
    operations: int  # a turn of `multiply`; it takes (turns, sink of one register a chunk)
    bytes: int  # a turn of `copy`, read and written; it takes (turns a chunk, source, target)


def roof_code(target: Target) -> RoofCode:
    """The kernels for a target, in its widest registers."""
    lanes = target.lanes(F32)
    accumulators = target.registers - SPARE
    text = "\n".join((
        f'target triple = "{target.triple}"', _multiply(lanes, accumulators), _copy(lanes),
        f"attributes #0 = {{ {target.attributes} }}", "!0 = !{i32 1}"))
    return RoofCode(compile_module(text, target), accumulators, lanes, 2 * lanes * accumulators,
                    2 * UNROLLED * lanes * F32.size)


def _multiply(lanes: int, accumulators: int) -> str:
    kind, name = vector("float", lanes), suffix("float", lanes)
    each = range(accumulators)
    phis = "\n".join(f"  %a{k} = phi {kind} [%x, %entry], [%b{k}, %turn]" for k in each)
    steps = "\n".join(
        f"  %b{k} = call {kind} @llvm.fma.{name}({kind} %x, {kind} %y, {kind} %a{k})" for k in each)
    sums = "\n".join(
        f"  %s{k} = fadd {kind} {f'%s{k - 1}' if k else '%x'}, %b{k}" for k in each)
    return f"""
declare {kind} @llvm.fma.{name}({kind}, {kind}, {kind})

define void @multiply(ptr %args, i64 %chunk) #0 {{
entry:
  %turns = load i64, ptr %args
  %sink.at = getelementptr i64, ptr %args, i64 1
  %sinks = load ptr, ptr %sink.at
  %sink = getelementptr {kind}, ptr %sinks, i64 %chunk
  %x = load {kind}, ptr %sink
  %y = fneg {kind} %x
  br label %turn
turn:
  %t = phi i64 [0, %entry], [%next, %turn]
{phis}
{steps}
  %next = add i64 %t, 1
  %more = icmp slt i64 %next, %turns
  br i1 %more, label %turn, label %done
done:
{sums}
  store {kind} %s{accumulators - 1}, ptr %sink
  ret void
}}
"""


def _copy(lanes: int) -> str:
    kind = vector("float", lanes)
    size = lanes * F32.size
    loads, stores = [], []
    for k in range(UNROLLED):
        loads.append(f"  %i{k} = add i64 %at, {k}\n"
                     f"  %p{k} = getelementptr {kind}, ptr %source, i64 %i{k}\n"
                     f"  %v{k} = load {kind}, ptr %p{k}, align {size}")
        stores.append(f"  %q{k} = getelementptr {kind}, ptr %target, i64 %i{k}\n"
                      f"  store {kind} %v{k}, ptr %q{k}, align {size}, !nontemporal !0")
    body = "\n".join((*loads, *stores))
    return f"""
define void @copy(ptr %args, i64 %chunk) #0 {{
entry:
  %turns = load i64, ptr %args
  %source.at = getelementptr i64, ptr %args, i64 1
  %source = load ptr, ptr %source.at
  %target.at = getelementptr i64, ptr %args, i64 2
  %target = load ptr, ptr %target.at
  %first = mul i64 %chunk, %turns
  br label %turn
turn:
  %t = phi i64 [0, %entry], [%next, %turn]
  %number = add i64 %first, %t
  %at = mul i64 %number, {UNROLLED}
{body}
  %next = add i64 %t, 1
  %more = icmp slt i64 %next, %turns
  br i1 %more, label %turn, label %done
done:
  fence seq_cst
  ret void
}}
"""
