"""The formulas of elementwise ops in LLVM IR: the fewest instructions that are right for each.

No fast-math flag is ever set, so that full and edge tiles, and a value and its recomputation, agree
to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from dlc.compiler.llvm.text import Operand, Writer, element, splat, suffix, vector
from dlc.ir.scalar import COMPARISONS, ScalarBuilder
from dlc.ir.types import BF16, BOOL, F32, F64, I16, I32, I64, DType

_FLOAT_OPS: Final = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv"}
_INTEGER_OPS: Final = {"add": "add", "sub": "sub", "mul": "mul", "shl": "shl", "lshr": "lshr"}
_CALLS: Final = {"sqrt": "sqrt", "floor": "floor", "round": "roundeven"}
_FLOAT_TESTS: Final = {"eq": "oeq", "ne": "une", "lt": "olt", "le": "ole", "gt": "ogt", "ge": "oge"}
_TESTS: Final = {"lt": "lt", "le": "le", "gt": "gt", "ge": "ge"}
_MANTISSA: Final = {"f32": 23, "f64": 52}


class LlvmBuilder(ScalarBuilder[Operand]):
    """Writes a formula as instructions on `lanes` lanes.

    `scales` says whether the target multiplies by powers of two in one instruction (AVX-512).
    """

    def __init__(self, writer: Writer, lanes: int, scales: bool) -> None:
        self.writer = writer
        self.lanes = lanes
        self.scales = scales

    def const(self, dtype: DType, value: float) -> Operand:
        return self.writer.ready(splat(dtype, value, self.lanes))

    def dtype(self, x: Operand) -> DType:
        return x.dtype

    def primitive(self, op: str, *args: Operand) -> Operand:
        if op != "select" and any(a.dtype is BF16 for a in args):
            made = self.primitive(op, *(self.cast(a, F32) if a.dtype is BF16 else a for a in args))
            return self.cast(made, BF16) if made.dtype is F32 else made
        if op in COMPARISONS:
            return self._compare(op, *args)
        if op in ("and", "or", "xor"):
            return self._binary(op, *args)
        kind = "float" if args[0].dtype.is_float else "integer"
        handler: Callable[..., Operand] | None = getattr(self, f"_{kind}_{op}", None)
        handler = handler or getattr(self, f"_{op}", None)
        if handler is not None:
            return handler(*args)
        plain = _FLOAT_OPS if kind == "float" else _INTEGER_OPS
        if op in plain:
            return self._binary(plain[op], *args)
        if op in _CALLS and kind == "float":
            return self._call(_CALLS[op], args[0].dtype, *args)
        raise ValueError(f"the primitive {op} does not take {args[0].dtype}")

    def cast(self, x: Operand, to: DType) -> Operand:
        if x.dtype is to:
            return x
        if x.dtype is BF16:
            return self.cast(self._from_bf16(x), to)
        if to is BOOL:
            return self._compare("ne", x, self.like(x, 0))
        if x.dtype is BOOL:
            return self.select(x, self.const(to, 1), self.const(to, 0))
        if x.dtype.is_float:
            return self._from_float(x, to)
        if to is BF16:
            return self.cast(self.cast(x, F64 if x.dtype.size >= 4 else F32), to)
        if to.is_float:
            return self._convert("uitofp" if x.dtype.kind == "uint" else "sitofp", x, to)
        if to.size < x.dtype.size:
            return self._convert("trunc", x, to)
        if to.size == x.dtype.size:
            return Operand(x.text, to, x.lanes)
        return self._convert("zext" if x.dtype.kind == "uint" else "sext", x, to)

    def bitcast(self, x: Operand, to: DType) -> Operand:
        if element(x.dtype) == element(to):
            return Operand(x.text, to, x.lanes)
        return self._convert("bitcast", x, to)

    def rarely(
        self, where: Operand, compute: Callable[[], tuple[Operand, ...]],
        usual: tuple[Operand, ...],
    ) -> tuple[Operand, ...]:
        emit, line = self.writer.emit, self.writer.line
        somewhere = where.text if self.lanes == 1 else emit(
            f"call i1 @llvm.vector.reduce.or.v{self.lanes}i1({where})", "c")
        rare, after = self.writer.label("rare"), self.writer.label("after")
        scope = self.writer.scopes[-1]
        before, known = scope.block, dict(scope.known)
        line(f"br i1 {somewhere}, label %{rare}, label %{after}")
        self.writer.start(rare)
        chosen = super().rarely(where, compute, usual)
        last, scope.known = scope.block, known
        line(f"br label %{after}")
        self.writer.start(after)
        return tuple(
            self._emit(f"phi {a.kind} [{a.text}, %{last}], [{b.text}, %{before}]", a.dtype)
            for a, b in zip(chosen, usual, strict=True))

    def repeat(
        self, times: int, step: Callable[[tuple[Operand, ...]], tuple[Operand, ...]],
        values: tuple[Operand, ...],
    ) -> tuple[Operand, ...]:
        """As a loop in a brief function: LLVM takes ten times as long for ten rounds of a cipher in
        a row. These are a sixth faster, as what is the same for all elements stands before them."""
        if not self.writer.brief:
            return super().repeat(times, step, values)
        writer, scope = self.writer, self.writer.scopes[-1]
        turn, after = writer.label("turn"), writer.label("after")
        before, known = scope.block, dict(scope.known)
        count, own = writer.fresh("n"), [
            Operand(writer.fresh("v"), each.dtype, each.lanes) for each in values]
        writer.line(f"br label %{turn}")
        writer.start(turn)
        head = len(scope.lines)
        following = step(tuple(own))
        left = writer.emit(f"sub i64 {count}, 1", "n")
        more = writer.emit(f"icmp ne i64 {left}, 0", "c")
        last, scope.known = scope.block, known
        scope.lines[head:head] = [
            f"  {mine} = phi {kind} [{first}, %{before}], [{later}, %{last}]"
            for mine, kind, first, later in (
                (count, "i64", str(times), left),
                *((o.text, o.kind, first.text, later.text)
                  for o, first, later in zip(own, values, following, strict=True)))]
        writer.line(f"br i1 {more}, label %{turn}, label %{after}")
        writer.start(after)
        return following

    def _emit(self, text: str, dtype: DType) -> Operand:
        return Operand(self.writer.emit(text, "v"), dtype, self.lanes)

    def _binary(self, name: str, a: Operand, b: Operand) -> Operand:
        a, b = self.writer.word(name, a), self.writer.word(name, b)
        return self._emit(f"{name} {a}, {b.text}", a.dtype)

    def _call(self, name: str, dtype: DType, *args: Operand) -> Operand:
        kind = suffix(element(args[0].dtype), self.lanes)
        operands = ", ".join(map(str, args))
        return self._emit(f"call {args[0].kind} @llvm.{name}.{kind}({operands})", dtype)

    def _convert(self, name: str, x: Operand, to: DType) -> Operand:
        return self._emit(f"{name} {x} to {vector(element(to), self.lanes)}", to)

    def _compare(self, op: str, a: Operand, b: Operand) -> Operand:
        if a.dtype.is_float:
            return self._emit(f"fcmp {_FLOAT_TESTS[op]} {a}, {b.text}", BOOL)
        sign = "s" if a.dtype.kind == "int" else "u"
        test = op if op in ("eq", "ne") else sign + _TESTS[op]
        return self._emit(f"icmp {test} {a}, {b.text}", BOOL)

    def _select(self, c: Operand, a: Operand, b: Operand) -> Operand:
        return self._emit(f"select {c}, {a}, {b}", a.dtype)

    def _not(self, x: Operand) -> Operand:
        return self._binary("xor", x, self.const(x.dtype, 1 if x.dtype is BOOL else -1))

    def _fma(self, a: Operand, b: Operand, c: Operand) -> Operand:
        if a.dtype.is_float and a.dtype.size == 2:
            # LLVM would do it in f64, and call a library to round; the product is exact in f32.
            wide = (self.cast(x, F32) for x in (a, b, c))
            return self.cast(self._call("fma", F32, *wide), a.dtype)
        if a.dtype.is_float:
            return self._call("fma", a.dtype, a, b, c)
        return self.add(self.mul(a, b), c)

    def _float_neg(self, x: Operand) -> Operand:
        return self._emit(f"fneg {x}", x.dtype)

    def _integer_neg(self, x: Operand) -> Operand:
        return self.sub(self.like(x, 0), x)

    def _float_abs(self, x: Operand) -> Operand:
        return self._call("fabs", x.dtype, x)

    def _integer_abs(self, x: Operand) -> Operand:
        if x.dtype.kind != "int":
            return x
        kind = suffix(element(x.dtype), self.lanes)
        return self._emit(f"call {x.kind} @llvm.abs.{kind}({x}, i1 false)", x.dtype)

    def _integer_maximum(self, a: Operand, b: Operand) -> Operand:
        return self._extreme("max", "or", a, b)

    def _integer_minimum(self, a: Operand, b: Operand) -> Operand:
        return self._extreme("min", "and", a, b)

    def _extreme(self, name: str, of_bools: str, a: Operand, b: Operand) -> Operand:
        if a.dtype is BOOL:
            return self._binary(of_bools, a, b)
        return self._call(("s" if a.dtype.kind == "int" else "u") + name, a.dtype, a, b)

    def _float_maximum(self, a: Operand, b: Operand) -> Operand:
        return self._float_extreme("gt", a, b)

    def _float_minimum(self, a: Operand, b: Operand) -> Operand:
        return self._float_extreme("lt", a, b)

    def _float_extreme(self, test: str, a: Operand, b: Operand) -> Operand:
        # The first select is vmaxps, which gives b if either is nan; llvm.maximum takes 5 there.
        if b.is_constant:
            a, b = b, a
        chosen = self.select(self.compare(test, a, b), a, b)
        if a.is_constant:  # and no nan
            return chosen
        return self.select(self._emit(f"fcmp uno {a}, {a.text}", BOOL), a, chosen)

    def _integer_floordiv(self, a: Operand, b: Operand) -> Operand:
        quotient, _ = self._divide(a, b)
        return quotient

    def _integer_mod(self, a: Operand, b: Operand) -> Operand:
        _, rest = self._divide(a, b)
        return rest

    def _divide(self, a: Operand, b: Operand) -> tuple[Operand, Operand]:
        """Quotient and remainder of integers, both 0 for b = 0; no division may trap."""
        zero, one = self.like(a, 0), self.like(a, 1)
        empty = self.compare("eq", b, zero)
        if a.dtype.kind == "uint":
            safe = self.select(empty, one, b)
            quotient, rest = self._binary("udiv", a, safe), self._binary("urem", a, safe)
        else:
            minus = self.compare("eq", b, self.like(b, -1))
            safe = self.select(self._binary("or", empty, minus), one, b)
            plain = self.select(minus, self.sub(zero, a), self._binary("sdiv", a, safe))
            left = self.sub(a, self.mul(plain, b))
            apart = self.compare("lt", self._binary("xor", left, b), zero)
            off = self._binary("and", apart, self.compare("ne", left, zero))
            quotient = self.select(off, self.sub(plain, one), plain)
            rest = self.select(off, self.add(left, b), left)
        return self.select(empty, zero, quotient), self.select(empty, zero, rest)

    def _float_floordiv(self, a: Operand, b: Operand) -> Operand:
        return self._divide_floats(a, b)[0]

    def _float_mod(self, a: Operand, b: Operand) -> Operand:
        rest = self._divide_floats(a, b)[1]
        kind = suffix(element(a.dtype), self.lanes)
        zero = self.like(a, 0)
        signed = self._emit(f"call {a.kind} @llvm.copysign.{kind}({a.kind} {zero.text}, {b})",
                            a.dtype)
        return self.select(self.compare("eq", rest, zero), signed, rest)

    def _divide_floats(self, a: Operand, b: Operand) -> tuple[Operand, Operand]:
        """Floored quotient and remainder; exact while the quotient is below 2**24 (2**53).

        a / b may round up to a whole number: then the remainder, exact by fma, has the wrong sign.
        """
        zero = self.like(a, 0)
        quotient = self.primitive("floor", self.div(a, b))
        rest = self.fma(self.primitive("neg", quotient), b, a)
        rest = self.select(self.compare("eq", quotient, zero), a, rest)  # b may be infinite
        apart = self._binary("xor", self.compare("lt", rest, zero), self.compare("lt", b, zero))
        off = self._binary("and", apart, self._emit(f"fcmp one {rest}, {zero.text}", BOOL))
        return (self.select(off, self.sub(quotient, self.like(a, 1)), quotient),
                self.select(off, self.add(rest, b), rest))

    def _ldexp(self, x: Operand, n: Operand) -> Operand:
        if self.scales:
            return self._scale(x, n)
        # Two powers of two, each a normal number. The last bits of a number that is rounded to a
        # whole one are that: AVX2 has no other instruction for f64, and those of nan are some.
        bits, magic = (I32, 1.5 * 2.0**23) if x.dtype is F32 else (I64, 1.5 * 2.0**52)
        whole = self.bitcast(self.add(n, self.like(n, magic)), bits)
        zero = self.bitcast(splat(n.dtype, magic, self.lanes), bits)
        whole = self.sub(whole, zero)
        half = self._binary("ashr", whole, self.like(whole, 1))
        rest = self.sub(whole, half)
        return self.mul(self.mul(x, self._power(half, x.dtype)), self._power(rest, x.dtype))

    def _power(self, n: Operand, dtype: DType) -> Operand:
        """2**n as a normal number."""
        biased = self.add(n, self.like(n, 127 if dtype is F32 else 1023))
        return self.bitcast(
            self._binary("shl", biased, self.like(n, _MANTISSA[dtype.name])), dtype)

    def _scale(self, x: Operand, n: Operand) -> Operand:
        """By the instruction of AVX-512, which takes whole registers."""
        name, lanes = ("ps", 16) if x.dtype is F32 else ("pd", 8)
        kind = vector(element(x.dtype), lanes)
        parts = [
            self.writer.emit(
                f"call {kind} @llvm.x86.avx512.mask.scalef.{name}.512({kind} {one}, {kind} {two},"
                f" {kind} zeroinitializer, i{lanes} -1, i32 4)", "v")
            for one, two in zip(self._parts(x, lanes), self._parts(n, lanes), strict=True)]
        return Operand(self._joined(parts, element(x.dtype), lanes), x.dtype, self.lanes)

    def _parts(self, x: Operand, lanes: int) -> list[str]:
        """A vector in registers of `lanes` lanes; lanes past its end hold anything."""
        if x.lanes == 1:
            return [self.writer.emit(
                f"insertelement {vector(element(x.dtype), lanes)} poison, {x}, i64 0", "h")]
        if x.lanes == lanes:
            return [x.text]
        return [
            self.writer.emit(f"shufflevector {x}, {x.kind} poison, <{lanes} x i32> <" + ", ".join(
                f"i32 {at}" if at < x.lanes else "i32 poison"
                for at in range(first, first + lanes)) + ">", "h")
            for first in range(0, x.lanes, lanes)]

    def _joined(self, parts: list[str], kind: str, lanes: int) -> str:
        """Registers of `lanes` lanes as one vector of as many lanes as are written."""
        while len(parts) > 1:
            lanes *= 2
            order = ", ".join(f"i32 {at}" for at in range(lanes))
            half = vector(kind, lanes // 2)
            parts = [self.writer.emit(
                f"shufflevector {half} {a}, {half} {b}, <{lanes} x i32> <{order}>", "v")
                for a, b in zip(parts[::2], parts[1::2], strict=True)]
        if self.lanes == 1:
            return self.writer.emit(f"extractelement {vector(kind, lanes)} {parts[0]}, i64 0", "v")
        if self.lanes < lanes:
            order = ", ".join(f"i32 {at}" for at in range(self.lanes))
            whole = vector(kind, lanes)
            return self.writer.emit(
                f"shufflevector {whole} {parts[0]}, {whole} poison,"
                f" <{self.lanes} x i32> <{order}>", "v")
        return parts[0]

    def _from_float(self, x: Operand, to: DType) -> Operand:
        if to.is_float:
            if to.size == x.dtype.size:
                return self._from_float(self._convert("fpext", x, F32), to)
            if x.dtype.size == 8 and to.size == 2:
                x = self._round_to_odd(x)
            if to is BF16:
                return self._to_bf16(x)
            return self._convert("fptrunc" if to.size < x.dtype.size else "fpext", x, to)
        if x.dtype.size == 2:
            x = self._convert("fpext", x, F32)
        return self._saturate(x, to)

    def _from_bf16(self, x: Operand) -> Operand:
        """An f32 whose upper half it is."""
        wide = self._convert("zext", x, I32)
        return self.bitcast(self._binary("shl", wide, self.like(wide, 16)), F32)

    def _to_bf16(self, x: Operand) -> Operand:
        """The upper half of an f32, rounded to even: many CPUs have no instruction for it."""
        bits = self.bitcast(x, I32)
        last = self._binary("and", self._binary("lshr", bits, self.like(bits, 16)),
                            self.like(bits, 1))
        near = self.add(self.add(bits, self.like(bits, 0x7FFF)), last)
        # A nan stays one, though its lower half alone may say so.
        quiet = self._binary("or", bits, self.like(bits, 0x400000))
        chosen = self.select(self._emit(f"fcmp uno {x}, {x.text}", BOOL), quiet, near)
        half = self.cast(self._binary("lshr", chosen, self.like(bits, 16)), I16)
        return self.bitcast(half, BF16)

    def _round_to_odd(self, x: Operand) -> Operand:
        """An f64 as f32 towards 0, the last bit set where that is not exact: what is rounded again
        to fewer digits then comes out as if rounded once (Boldo and Melquiond, 2008)."""
        near = self._convert("fptrunc", x, F32)
        back, bits = self._convert("fpext", near, x.dtype), self.bitcast(near, I32)
        zero, one = self.like(x, 0), self.const(I32, 1)
        above = self.select(self.compare("lt", x, zero), self.compare("lt", back, x),
                            self.compare("gt", back, x))
        odd = self._binary("or", self.select(above, self.sub(bits, one), bits), one)
        exact = self.compare("eq", back, x)
        return self.bitcast(self.select(exact, bits, odd), F32)

    def _saturate(self, x: Operand, to: DType) -> Operand:
        """Clamped, then converted: llvm.fptosi.sat takes 8 instructions a lane."""
        bits = to.size * 8 - (1 if to.kind == "int" else 0)
        low, limit = (-(2.0 ** bits) if to.kind == "int" else 0.0), 2.0 ** bits
        digits = _MANTISSA[x.dtype.name] + 1
        inside = limit - 1 if bits <= digits else limit - 2.0 ** (bits - digits)
        floor, ceiling = self.like(x, low), self.like(x, inside)
        above = self.select(self.compare("gt", x, floor), x, floor)
        clamped = self.select(self.compare("lt", above, ceiling), above, ceiling)
        whole = self._convert("fptosi" if to.kind == "int" else "fptoui", clamped, to)
        if bits > digits:
            whole = self.select(self.compare("ge", x, self.like(x, limit)),
                                self.const(to, int(limit) - 1), whole)
        if low == 0:
            return whole
        nan = self._emit(f"fcmp uno {x}, {x.text}", BOOL)
        return self.select(nan, self.const(to, 0), whole)
