"""`on "cpu" { … }`: where what is inside is run."""

from __future__ import annotations

from typing import Final

from dlc.frontend.elaborate.frames import Fault
from dlc.frontend.text import syntax

# By where a program runs: the devices that are there for its blocks.
THERE: Final = {"cpu": ("cpu",), "cuda": ("cuda", "cuda:0")}
_KINDS: Final = ("cpu", "cuda")


def require_device(statement: syntax.On, device: str) -> None:
    """`Fault` unless the block's device is where the program runs; nothing falls back silently."""
    if statement.device in THERE[device]:
        return
    kind, colon, number = statement.device.partition(":")
    there = f"there is {', '.join(THERE[device])}"
    if kind in _KINDS and (not colon or number.isdecimal()):
        raise Fault("no-device", f'the device "{statement.device}" is not there', statement.span,
                    (there,), 'a whole program runs on one device: `load(…, device="cuda")`, '
                    "`--device cuda`")
    raise Fault("no-device", f'"{statement.device}" is no device', statement.span, (there,),
                'a device is called "cpu", "cuda" or "cuda:1"')
