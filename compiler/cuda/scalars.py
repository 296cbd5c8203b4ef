"""The formulas of elementwise ops in CUDA C, with the bits of a CPU's code.

Nothing is contracted or reordered: the compiler is told so (`nvrtc.py`), and a formula says `fma`
where it means it. Numbers of 16 bits are rounded after each operation. What C has no operator for
is a function of `prelude.cu`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from dlc.compiler.cuda.text import Operand, Writer, kind, number, stored
from dlc.ir.scalar import COMPARISONS, ScalarBuilder
from dlc.ir.types import BF16, BOOL, F16, F32, F64, DType

_SIGNS: Final = {"add": "+", "sub": "-", "mul": "*", "div": "/", "and": "&", "or": "|", "xor": "^",
                 "eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_FLOAT_CALLS: Final = {
    "floordiv": "float_quotient", "mod": "float_rest", "maximum": "float_larger",
    "minimum": "float_smaller", "abs": "size_of", "sqrt": "root", "floor": "rounded_down",
    "round": "rounded", "fma": "fused", "ldexp": "scaled"}
_INTEGER_CALLS: Final = {"floordiv": "floor_quotient", "mod": "floor_rest", "maximum": "larger",
                         "minimum": "smaller"}
_UNSIGNED: Final = {1: "unsigned char", 2: "unsigned short", 4: "unsigned",
                    8: "unsigned long long"}
_DIGITS: Final = {"f16": 24, "bf16": 24, "f32": 24, "f64": 53}  # of the register


class CudaBuilder(ScalarBuilder[Operand]):
    """Writes a formula as definitions, one for each primitive."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer

    def const(self, dtype: DType, value: float) -> Operand:
        return Operand(number(dtype, value), dtype, True)

    def dtype(self, x: Operand) -> DType:
        return x.dtype

    def primitive(self, op: str, *args: Operand) -> Operand:
        dtype = args[0].dtype
        if op == "select":
            return self._emit(args[1].dtype, "{} ? {} : {}", *args)
        if op in COMPARISONS:
            return self._emit(BOOL, f"{{}} {_SIGNS[op]} {{}}", *args)
        handler: Callable[..., Operand] | None = getattr(self, f"_{op}", None)
        if handler is not None:
            return handler(*args)
        if dtype.is_float:
            return self._of_floats(op, args)
        return self._of_integers(op, args)

    def cast(self, x: Operand, to: DType) -> Operand:
        if x.dtype is to:
            return x
        if to is BOOL:
            return self._emit(BOOL, "{} != 0", x)
        if to in (F16, BF16):
            # A whole number goes by way of a double: a float may round it, and then once more.
            wide = x if x.dtype.is_float else self.cast(x, F64)
            return self._rounded(to, str(wide))
        if x.dtype.is_float and not to.is_float:
            return self._saturate(x, to)
        return self._emit(to, f"({kind(to)}){{}}", x)

    def bitcast(self, x: Operand, to: DType) -> Operand:
        if x.dtype is to:
            return x
        if x.dtype.is_float:
            call = {F32: "__float_as_int", F64: "__double_as_longlong", F16: "f16_bits",
                    BF16: "bf16_bits"}[x.dtype]
            return self._emit(to, f"({kind(to)}){x.bits or f'{call}({x})'}")
        if to.is_float:
            call = {F32: "__int_as_float", F64: "__longlong_as_double", F16: "f16_value",
                    BF16: "bf16_value"}[to]
            bits = _UNSIGNED[2] if to.size == 2 else "int" if to.size == 4 else "long long"
            return self._emit(to, f"{call}(({bits}){{}})", x)
        return self._emit(to, f"({kind(to)}){{}}", x)

    def rarely(
        self, where: Operand, compute: Callable[[], tuple[Operand, ...]],
        usual: tuple[Operand, ...],
    ) -> tuple[Operand, ...]:
        names = []
        for value in usual:
            names.append(self.writer.fresh("u"))
            self.writer.line(f"{kind(value.dtype)} {names[-1]} = {value};")
        self.writer.open(f"if ({where})")
        for name, value in zip(names, compute(), strict=True):
            self.writer.line(f"{name} = {value};")
        self.writer.close()
        return tuple(Operand(name, v.dtype) for name, v in zip(names, usual, strict=True))

    def _rounded(self, dtype: DType, text: str) -> Operand:
        """A number of 16 bits, nearest to a wider one."""
        bits = self.writer.define(stored(dtype), f"{dtype}_bits({text})", "t.bits")
        return replace(self.writer.emit(dtype, f"{dtype}_value({bits})"), bits=bits)

    def _emit(self, dtype: DType, form: str, *args: Operand) -> Operand:
        return self.writer.emit(dtype, form.format(*args))

    def _of_floats(self, op: str, args: tuple[Operand, ...]) -> Operand:
        dtype = args[0].dtype
        if op in _FLOAT_CALLS:
            text = f"{_FLOAT_CALLS[op]}({', '.join(map(str, args))})"
        elif op == "neg":
            text = f"-{args[0]}"
        elif op in ("add", "sub", "mul", "div"):
            text = f"{args[0]} {_SIGNS[op]} {args[1]}"
        else:
            raise ValueError(f"the primitive {op} does not take {dtype}")
        if dtype.size == 2 and op not in ("neg", "abs", "maximum", "minimum"):
            return self._rounded(dtype, text)
        return self.writer.emit(dtype, text)

    def _of_integers(self, op: str, args: tuple[Operand, ...]) -> Operand:
        dtype = args[0].dtype
        if op in _INTEGER_CALLS:
            given = ", ".join(f"({kind(dtype)}){a}" for a in args)
            return self.writer.emit(dtype, f"{_INTEGER_CALLS[op]}({given})")
        unsigned, to = _UNSIGNED[max(4, dtype.size)], kind(dtype)
        a = args[0]
        if op in ("add", "sub", "mul"):  # unsigned numbers wrap, others may not
            return self._emit(dtype, f"({to})(({unsigned}){{}} {_SIGNS[op]} ({unsigned}){{}})",
                              *args)
        if op == "neg":
            return self._emit(dtype, f"({to})(0 - ({unsigned}){{}})", a)
        if op == "abs":
            if dtype.kind != "int":
                return a
            return self._emit(dtype, f"({to})({{}} < 0 ? 0 - ({unsigned}){{}} : ({unsigned}){{}})",
                              a, a, a)
        if op == "fma":
            return self.add(self.mul(a, args[1]), args[2])
        if op in ("and", "or", "xor"):
            return self._emit(dtype, f"({to})({{}} {_SIGNS[op]} {{}})", *args)
        raise ValueError(f"the primitive {op} does not take {dtype}")

    def _not(self, x: Operand) -> Operand:
        return self._emit(x.dtype, "!{}" if x.dtype is BOOL else f"({kind(x.dtype)})~{{}}", x)

    def _shl(self, a: Operand, b: Operand) -> Operand:
        return self._shift("<<", a, b)

    def _lshr(self, a: Operand, b: Operand) -> Operand:
        return self._shift(">>", a, b)

    def _shift(self, sign: str, a: Operand, b: Operand) -> Operand:
        size = a.dtype.size
        return self._emit(a.dtype, f"({kind(a.dtype)})(({_UNSIGNED[size]}){{}} {sign} {{}})", a, b)

    def _maximum(self, a: Operand, b: Operand) -> Operand:
        return self._extreme("maximum", "gt", a, b)

    def _minimum(self, a: Operand, b: Operand) -> Operand:
        return self._extreme("minimum", "lt", a, b)

    def _extreme(self, op: str, test: str, a: Operand, b: Operand) -> Operand:
        """Of zeros of both signs, the one that a CPU's code takes."""
        if a.dtype is BOOL:
            return self._emit(BOOL, f"{{}} {'||' if op == 'maximum' else '&&'} {{}}", a, b)
        if not a.dtype.is_float:
            return self._of_integers(op, (a, b))
        if b.constant:
            a, b = b, a
        if a.constant:  # it is no nan
            return self.select(self.compare(test, a, b), a, b)
        return self._of_floats(op, (a, b))

    def _saturate(self, x: Operand, to: DType) -> Operand:
        bits = to.size * 8 - (1 if to.kind == "int" else 0)
        low, limit = (-(2**bits) if to.kind == "int" else 0), 2**bits
        wide = F64 if x.dtype is F64 else F32
        given = ", ".join((number(wide, low), number(wide, limit), f"({kind(to)}){number(to, low)}",
                           f"({kind(to)}){number(to, limit - 1)}"))
        return self._emit(to, f"saturated({{}}, {given})", x)
