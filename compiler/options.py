"""What a compilation is told besides its program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from dlc.ir.dataclass import dataclass
from dlc.ir.diagnostics import Diagnostic, UserError
from dlc.ir.dims import Dim, evaluate, symbols

GPU = "cuda:"


def check_precision(precision: str, gpu: bool) -> None:
    """UserError for a precision that only a GPU has."""
    if precision == "tf32" and not gpu:
        raise UserError((Diagnostic(
            "bad-setting", "precision tf32 is of a GPU: no CPU multiplies such numbers",
            help="run on cuda, or take bf16 or f16"),))


@dataclass(frozen=True, slots=True)
class Options:
    """Settings of a compilation.

    target:    the CPU, as LLVM names it ("" is the host's), and its features ("" likewise); or a
               GPU, as in `cuda:sm_80`.
    hints:     likely sizes of symbols, from the program's text; they choose schedules, never
               results.
    verify:    check the program after every pass, not only at both ends.
    precision: of the operands of products of f32: f32, or rounded to bf16 or f16; tf32: those that
               a GPU makes on tensor cores are rounded to it there.
    timed:     the code takes the time of each launch, into a block that its caller gives.
    once:      the code runs once (initial values): better short, and soon there, than fast.
    """

    target: str = ""
    features: str = ""
    lanes: int = 16
    registers: int = 32
    hints: Mapping[str, int] = field(default_factory=dict)
    verify: bool = False
    precision: str = "f32"
    timed: bool = False
    once: bool = False

    @property
    def is_gpu(self) -> bool:
        """Whether the target is a GPU."""
        return self.target.startswith(GPU)

    def hint(self, name: str) -> int:
        """The likely size of a symbol (64 where nothing is said)."""
        return self.hints.get(name, 64)

    def likely(self, dim: Dim) -> int:
        """The likely value of a dim over symbols."""
        return evaluate(dim, {name: self.hint(name) for name in symbols(dim)})
