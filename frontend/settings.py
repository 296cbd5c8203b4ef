"""What a program may be built with besides its text: the choices that flags give."""

from __future__ import annotations

from typing import Final

FLOATS: Final = ("f32", "f64")  # of the library, and of what meets no type
PRECISIONS: Final = ("f32", "bf16", "f16", "tf32")  # of the operands of products of f32
