"""The floating-point mode of a CPU, as LLVM IR: denormals are 0; the caller's mode comes back."""

from __future__ import annotations

from dlc.compiler.llvm.target import Target
from dlc.compiler.llvm.text import Writer


class FloatMode:
    """The modes of the caller and of one function, which `writer` writes."""

    def __init__(self, writer: Writer, target: Target) -> None:
        self.writer, self.target = writer, target
        self.before = "%mode"  # the caller's mode, or where it is kept
        self.own = "%flush"  # this function's

    def flush_denormals(self) -> None:
        """Numbers too small to be normal count as 0: working on them takes a hundred cycles."""
        if self.target.is_arm:
            self.before = self.writer.emit("call i64 @llvm.aarch64.get.fpcr()", "fpcr")
            self.own = self.writer.emit(f"or i64 {self.before}, {1 << 24}", "fpcr")
            self.set()
            return
        self.writer.allocas += ["  %mode = alloca i32", "  %flush = alloca i32"]
        self.writer.line("call void @llvm.x86.sse.stmxcsr(ptr %mode)")
        before = self.writer.emit("load i32, ptr %mode", "mxcsr")
        after = self.writer.emit(f"or i32 {before}, {0x8040}", "mxcsr")
        self.writer.line(f"store i32 {after}, ptr %flush")
        self.set()

    def set(self) -> None:
        """The function's own mode, from here on."""
        self._set(self.own)

    def restore(self) -> None:
        """The caller's mode, from here on."""
        self._set(self.before)

    def _set(self, mode: str) -> None:
        call = (f"call void @llvm.aarch64.set.fpcr(i64 {mode})" if self.target.is_arm
                else f"call void @llvm.x86.sse.ldmxcsr(ptr {mode})")
        self.writer.line(call)
