"""What of CUDA C depends on the sizes of products of warp groups: the instruction for each."""

from __future__ import annotations

import re
from pathlib import Path

from dlc.ir.group_loops import ROWS, STEP

GROUPS = Path(__file__).with_name("groups.cu").read_text()
_USED = re.compile(r"multiply_rows<(BF16|F16), (\d+), (true|false), (true|false)>")


def groups_text(kernels: list[str]) -> str:
    """What kernels with products of warp groups need besides; "" if there are none."""
    used = sorted({found for text in kernels for found in _USED.findall(text)})
    if not used:
        return ""
    made = "".join(_product(*each) for each in used)
    return f"{GROUPS}\n#ifndef CUDA_ON_CPU\n{made}#endif\n"


def _product(digits: str, columns: str, left: str, right: str) -> str:
    """The instruction for this kind of numbers and columns, and factors that are turned or not."""
    count, kind = int(columns) // 2, digits.lower()
    places = ", ".join(f"%{k}" for k in range(count))
    sums = ", ".join(f'"+f"(sums[{k}])' for k in range(count))
    turned = ", ".join(str(int(each == "true")) for each in (left, right))
    shape = f"m{ROWS}n{columns}k{STEP}"
    return f"""\
template <> __device__ __forceinline__ void multiply_rows<{digits}, {columns}, {left}, {right}>(
    float *sums, Bits left, Bits right) {{
  asm volatile("{{\\n.reg .pred adds;\\nsetp.eq.u32 adds, 1, 1;\\n"
               "wgmma.mma_async.sync.aligned.{shape}.f32.{kind}.{kind} "
               "{{{places}}}, "
               "%{count}, %{count + 1}, adds, 1, 1, {turned};\\n}}"
               : {sums}
               : "l"(left), "l"(right));
}}
"""
