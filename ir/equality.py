"""Equality of records that hold numbers: nan is itself."""

from __future__ import annotations

from dataclasses import fields
from operator import attrgetter
from typing import TypeVar

T = TypeVar("T")


def equal_by_fields(cls: type[T]) -> type[T]:
    """Gives a dataclass (with `eq=False`) equality by the tuple of its compared fields.

    A tuple takes an element to be equal to itself, also if it is nan, which `==` of the fields one
    by one (what dataclasses do from Python 3.13 on) would deny.
    """
    get = attrgetter(*(f.name for f in fields(cls) if f.compare))  # type: ignore[arg-type]

    def equal(self: T, other: object) -> bool:
        return other.__class__ is self.__class__ and bool(get(self) == get(other))

    def number(self: T) -> int:
        return hash(get(self))

    cls.__eq__ = equal  # type: ignore[method-assign,assignment]
    cls.__hash__ = number  # type: ignore[method-assign,assignment]
    return cls
