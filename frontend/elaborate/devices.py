"""`on "cpu" { … }`: where what is inside is run."""

from __future__ import annotations

from typing import Final

from dlc.frontend.elaborate.frames import Fault
from dlc.frontend.text import syntax

THERE: Final = ("cpu",)  # what code is made for
_KINDS: Final = ("cpu", "cuda")


def require_device(statement: syntax.On) -> None:
    """`Fault` unless the device is one that code can be made for; nothing falls back silently."""
    if statement.device in THERE:
        return
    kind, colon, number = statement.device.partition(":")
    there = f"there is {', '.join(THERE)}"
    if kind in _KINDS and (not colon or number.isdecimal()):
        raise Fault("no-device", f'the device "{statement.device}" is not there', statement.span,
                    (there,))
    raise Fault("no-device", f'"{statement.device}" is no device', statement.span, (there,),
                'a device is called "cpu", "cuda" or "cuda:1"')
