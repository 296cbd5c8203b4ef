"""The machine that code is made for, and LLVM itself: text in, object code or assembly out."""

from __future__ import annotations

import threading
from functools import cache

from dlc.compiler.llvm.library import Told, library
from dlc.compiler.llvm.module import Context, Machine, Module
from dlc.ir.dataclass import dataclass
from dlc.ir.types import DType

CODE_LEVEL = 1  # of code generation; level 0 keeps accumulators on the stack
GLUE_LEVEL = 0  # of what calls kernels, once each: a sixth of the time to compile

_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Target:
    """A CPU as LLVM names it; `features` is a list of `+name` and `-name`."""

    triple: str
    cpu: str
    features: str

    @property
    def is_arm(self) -> bool:
        """Whether it is an AArch64."""
        return self.triple.startswith(("aarch64", "arm64"))

    @property
    def register_bytes(self) -> int:
        """The size of a vector register."""
        if self.has("avx512f"):
            return 64
        return 32 if self.has("avx2") else 16

    @property
    def registers(self) -> int:
        """The number of vector registers."""
        return 32 if self.is_arm or self.has("avx512f") else 16

    @property
    def scales(self) -> bool:
        """Whether one instruction multiplies a vector by powers of two."""
        return self.has("avx512f")

    def has(self, feature: str) -> bool:
        """Whether the CPU has a feature."""
        return f"+{feature}" in _split(self.features)

    def masks(self, dtype: DType, by_lane: bool) -> bool:
        """Whether there are instructions that read and write such elements under a mask, and at no
        cost; where lanes differ (`by_lane`), at any."""
        small = dtype.size < 4
        return self.has("avx512bw" if small else "avx512f") or (
            by_lane and not small and self.has("avx2"))

    @property
    def masks_by_sign(self) -> bool:
        """Whether masks are vectors, of whose elements the signs count."""
        return self.has("avx2") and not self.has("avx512f")

    def lanes(self, dtype: DType) -> int:
        """How many elements a vector register holds."""
        return self.register_bytes // dtype.size

    @property
    def attributes(self) -> str:
        """Attributes of every function: without them some CPUs get half-width vectors."""
        width = self.register_bytes * 8
        return (f'nounwind "prefer-vector-width"="{width}" "min-legal-vector-width"="{width}"'
                ' "no-stack-arg-probe"')


@cache  # it is asked for each formula, and a CPU has a hundred features
def _split(features: str) -> frozenset[str]:
    return frozenset(features.split(","))


# What a CPU given by name has of what is asked for here; LLVM knows the rest by the name.
_V3 = "+avx2,+fma"
_V4 = f"{_V3},+avx512f,+avx512bw,+avx512cd,+avx512dq,+avx512vl"
_LEVELS = {"x86-64": "", "x86-64-v2": "", "x86-64-v3": _V3, "x86-64-v4": _V4} | dict.fromkeys(
    ("haswell", "broadwell", "skylake", "alderlake", "raptorlake", "arrowlake", "znver1", "znver2",
     "znver3"), _V3) | dict.fromkeys(
    ("skylake-avx512", "cascadelake", "cooperlake", "icelake-client", "icelake-server",
     "tigerlake", "rocketlake", "sapphirerapids", "graniterapids", "znver4", "znver5"), _V4)
_ARM = ("neoverse", "cortex", "apple", "ampere")


@cache
def host() -> Target:
    """This machine."""
    with Told() as name, Told() as features:
        library().LLVMPY_GetHostCPUName(name.place)
        library().LLVMPY_GetHostCPUFeatures(features.place)
        each = sorted(filter(None, features.text.split(",")), key=lambda feature: feature[1:])
        return Target(_triple(), name.text, ",".join(each))


@cache
def _triple() -> str:
    """The kind of machine that this is to LLVM."""
    with Told() as told:
        library().LLVMPY_GetDefaultTargetTriple(told.place)
        return told.text


def target(cpu: str = "", features: str = "") -> Target:
    """The target `cpu` (the host if empty): an x86 level or CPU, `aarch64` or a CPU of that, or
    any other of the host's family, with its features."""
    if not cpu:
        return host()
    if cpu == "aarch64" or cpu.startswith(_ARM):
        name = "generic" if cpu == "aarch64" else cpu
        return Target("aarch64-unknown-linux-gnu", name, features or "+neon")
    if cpu in _LEVELS:
        return Target("x86_64-unknown-linux-gnu", cpu, features or _LEVELS[cpu])
    return Target(_triple(), cpu, features)


@cache
def _machine(kind: Target) -> Machine:
    return new_machine(kind)


def new_machine(kind: Target, level: int = CODE_LEVEL) -> Machine:
    """What makes code for a target; one thread at a time may use it."""
    which = ("NativeTarget", "NativeAsmPrinter") if kind.triple == _triple() else (
        "AllTargetInfos", "AllTargets", "AllTargetMCs", "AllAsmPrinters")
    with _lock:
        for each in which:
            getattr(library(), f"LLVMPY_Initialize{each}")()
    return Machine(kind.triple, kind.cpu, kind.features, level)


def compile_module(text: str, kind: Target) -> bytes:
    """Position-independent object code of IR text; InternalError if the text is wrong."""
    with Module(text, Context()) as module:
        return module.code(_machine(kind))


def compile_for_any(text: str) -> bytes:
    """The same of text that names no target, for all CPUs of this machine's family."""
    kind = Target(_triple(), "", "")
    with Module(f'target triple = "{kind.triple}"\n{text}', Context()) as module:
        return module.code(new_machine(kind))


def emit_assembly(text: str, kind: Target) -> str:
    """The assembly that `compile_module` encodes."""
    with Module(text, Context()) as module:
        return module.assembly(_machine(kind))
