"""Kernels with variants: which of them runs at which sizes, and what a manifest says of it."""

from __future__ import annotations

import pytest

from dlc.compiler.cuda.program import Steps, emit_text
from dlc.compiler.passes.apply_schedules import apply_schedules
from dlc.compiler.passes.emit import dim_json
from dlc.ir.check_program import check_program
from dlc.ir.program import Program
from dlc.ir.program_text import parse_program
from dlc.runtime.cuda.plan import Places

TWICE = """\
program f<N, M> {
  buffer x: f32[N, M] in
  buffer y: f32[N, M] out
  buffer z: f32[4] out
  variant twice.1 of twice where S*T >= 4096, T % 4 == 0
  variant twice.2 of twice where S >= 64
  launch twice<N, M>(x, y)
  launch twice<2, M>(x, y)
  launch twice<N, 3>(x, y)
  launch twice<N + 64, 3>(x, y)
  launch twice<1, 4>(x, z)
}
"""
KERNEL = """
kernel NAME<S, T>(p0: f32[S, T] in, p1: f32[S, T] out) {
  outer i0<S, i1<T
  p1[i0, i1] = add(p0[i0, i1], p0[i0, i1])
}

schedule NAME for "cuda:sm_80" {
  order i0, i1
  parallel 2
  chunks (S*T + 255) // 256
  threads THREADS
}
"""


def program() -> Program:
    kernels = [KERNEL.replace("NAME", name).replace("THREADS", threads)
               for name, threads in (("twice", "256"), ("twice.1", "128"), ("twice.2", "64"))]
    made = parse_program(TWICE + "".join(kernels))
    check_program(made)
    return apply_schedules(made)


def test_what_is_known_before_a_call_is_left_out() -> None:
    steps = Steps(program(), dim_json).describe()["steps"]
    assert isinstance(steps, list)
    found = [[(v["kernel"], v["where"]) for v in step.get("variants", ())] + [step["kernel"]]
             for step in steps]
    large = [["*", "M", "N"], ">=", 4096]
    fours = [["%", "M", 4], "==", 0]
    assert found == [
        [("twice_1", [large, fours]), ("twice_2", [["N", ">=", 64]]), "twice"],
        [("twice_1", [[["*", 2, "M"], ">=", 4096], fours]), "twice"],
        [("twice_2", [["N", ">=", 64]]), "twice"],
        ["twice_2"],
        ["twice"],
    ]


@pytest.mark.parametrize(("n", "m", "kernel", "threads"), [
    (64, 64, "twice_1", 128), (63, 64, "twice", 256), (63, 68, "twice_1", 128),
    (64, 63, "twice_2", 64), (2, 8192, "twice_1", 128), (1, 1, "twice", 256)])
def test_sizes_decide_what_is_launched(n: int, m: int, kernel: str, threads: int) -> None:
    plan = Steps(program(), dim_json).describe()
    steps = plan["steps"]
    assert isinstance(steps, list)
    launch = Places(plan, {"x": 512, "y": 1024}).pack(steps[0], {"N": n, "M": m})
    assert launch is not None
    assert (launch.kernel, launch.block, launch.grid) == (
        kernel, (threads,), (-(-n * m // 256),))


def test_the_text_tells_when_a_kernel_runs() -> None:
    text = emit_text(program())
    assert ("// variant twice.1 of twice where S*T >= 4096, T % 4 == 0\n"
            'extern "C" __global__ void __launch_bounds__(128, 1) twice_1(') in text
    assert text.count("__global__") == 3
