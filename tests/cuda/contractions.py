"""Which contractions of the examples a GPU does with a thread for each result: small ones alone.

All others are products in tiles, chains of products, or sums along rows that threads share.
"""

from __future__ import annotations

from math import prod

from dlc.compiler.kernels.implicit_products import likely
from dlc.ir.dims import product
from dlc.ir.kernel import Access, Compute, Kernel, computes
from dlc.ir.program import Program
from tests.cuda.compiled import runs

# For each step, the results of such a contraction, and the places of the sum.
ALONE: dict[tuple[str, str], set[str]] = {
    ("word2vec.dl", "fit"): {"100*N of 5"},
    ("zoo/decoder.dl", "fit"): {"2*N*T*T of 32", "8*N*T of 24"},
    ("zoo/dqn.dl", "fit"): {"16*N of 3", "16*N of 4", "3*N of 16", "N of 16"},
    ("zoo/maml.dl", "fit"): {
        "16*B of 64", "8*((K + 63) // 64) of 64", "8*((Q + 63) // 64) of 64", "8*B of 64",
        "8*B*K of 2", "8*B*Q of 2", "B*K of 8"},
    ("zoo/unet.dl", "fit"): {"4*H*N*W of 36", "4*H*N*W of 9"},
    ("zoo/wgan.dl", "judge"): {
        "32*N of 3", "32*N of 36", "64*N of 64", "64*N of 9", "N of 32"},
    ("zoo/wgan.dl", "fool"): {
        "32*N of 3", "32*N of 36", "64*N of 16", "64*N of 64", "64*N of 9", "N of 32"},
    ("zoo/wgan.dl", "fit"): {
        "32*N of 3", "32*N of 36", "64*N of 16", "64*N of 64", "64*N of 9", "64*N*turns.size of 64",
        "N of 32"},
}


def is_contraction(compute: Compute) -> bool:
    """Whether it adds up products of what it reads at different places."""
    last = compute.body[-1] if compute.body else None
    if compute.combine is None or compute.combine.kind != "sum" or last is None:
        return False
    return last.op == "mul" and last.name == compute.value


def alone(program: Program) -> list[str]:
    """The contractions of a program whose results one thread makes each: how many, of how many.
    Of variants, those that run if sizes are 64."""
    schedules = dict(program.schedules)
    found = []
    others = {v.kernel for v in program.variants} | {v.of for v in program.variants}
    chosen = {runs(program, v.of, dict.fromkeys(symbols, 64)) for v in program.variants
              for symbols in [k.symbols for k in program.kernels if k.name == v.of]}
    for kernel in program.kernels:
        if kernel.name in others - chosen:
            continue
        schedule = schedules[kernel.name]
        if schedule.shared is None and not schedule.sweep:
            found += [said(kernel, c) for c in computes(kernel.body) if is_contraction(c)]
    return found


def said(kernel: Kernel, compute: Compute) -> str:
    """`84*N of 10`: the results, and at how many places the sum is taken, if sizes are 64."""
    results = product(tuple(i.high for i in kernel.outer if not isinstance(i.high, Access)))
    places = prod(likely(i, dict.fromkeys(kernel.symbols, 64), kernel) for i in compute.over)
    return f"{results} of {places}"
