"""`@dataclass` in a sixth of its time: the standard one compiles six functions for each class.

There are some 250 classes, and 300 µs for each is a tenth of what a cold start takes. Here only
`__init__` is compiled, once for all classes that are alike but for the names of their fields; the
rest is made of functions that serve all classes. What is made is a dataclass to
`dataclasses.fields`, `replace` and `asdict`, and to type checkers. What is not known here (order,
inherited order of arguments by keyword, types that are no text) is left to the standard one.
"""

from __future__ import annotations

import dataclasses
from functools import cache
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:

    def dataclass(cls=None, /, **options):
        """As the standard decorator."""
        if cls is None:
            return lambda made: _made(made, options)
        return _made(cls, options)


__all__ = ["dataclass"]

Fields = dict[str, Any]
_OURS: Final = {"frozen", "slots", "eq"}
_SPECIAL: Final = ("ClassVar", "InitVar", "KW_ONLY")


@dataclasses.dataclass(frozen=True)
class _Probe:
    """What the standard decorator writes of a field, and of its options."""

    one: int


_KIND: Final = dataclasses.fields(_Probe)[0]._field_type  # type: ignore[attr-defined]


@dataclasses.dataclass(frozen=True)
class _Params:
    """What the standard decorator asks of a base class."""

    frozen: bool
    init: bool = True
    repr: bool = True
    eq: bool = True
    order: bool = False
    unsafe_hash: bool = False


def _made(cls: type, options: dict[str, bool]) -> type:
    own = _own_fields(cls) if options.get("slots") and options.keys() <= _OURS else None
    fields: Fields = {}
    for base in cls.__mro__[-1:0:-1]:
        fields.update(getattr(base, "__dataclass_fields__", {}))
    if own is None or any(f._field_type is not _KIND or f.kw_only for f in fields.values()):
        return dataclasses.dataclass(**options)(cls)
    taken = {n for base in cls.__mro__[1:] for n in getattr(base, "__slots__", ())}
    fields.update(own)
    frozen, eq = options.get("frozen", False), options.get("eq", True)
    names = {k: v for k, v in cls.__dict__.items()
             if k not in own and k not in ("__dict__", "__weakref__")}
    methods = _methods(fields, frozen, eq, hasattr(cls, "__post_init__"))
    made = type(cls)(cls.__name__, cls.__bases__, {
        **methods, **names,
        "__slots__": tuple(name for name in own if name not in taken),
        "__dataclass_fields__": fields, "__dataclass_params__": _Params(frozen, eq=eq),
    })
    made.__qualname__ = cls.__qualname__
    if frozen:
        methods["__init__"].__globals__.update(
            {f"_set{at}": getattr(made, name).__set__ for at, name in enumerate(fields)})
    return made


def _own_fields(cls: type) -> Fields | None:
    """The fields that a class adds; None if one is of a kind that is not known here."""
    own: Fields = {}
    for name, kind in cls.__annotations__.items():
        if not isinstance(kind, str) or any(word in kind for word in _SPECIAL):
            return None
        default = cls.__dict__.get(name, dataclasses.MISSING)
        known = isinstance(default, dataclasses.Field)
        field: Any = default if known else dataclasses.field(default=default)
        if field.kw_only is True or field.default.__class__.__hash__ is None:
            return None
        field.name, field.type, field._field_type, field.kw_only = name, kind, _KIND, False
        own[name] = field
    return own


def _methods(fields: Fields, frozen: bool, eq: bool, post_init: bool) -> dict[str, Any]:
    """The methods of a class that has none of its own by their names."""
    made: dict[str, Any] = {"__init__": _init(fields, frozen, post_init), "__repr__": _repr}
    made["__match_args__"] = tuple(name for name, field in fields.items() if field.init)
    if eq:
        made["__eq__"] = _equality([n for n, f in fields.items() if f.compare])
        hashed = [n for n, f in fields.items() if (f.compare if f.hash is None else f.hash)]
        made["__hash__"] = _hash(hashed) if frozen else None
    if frozen:
        made |= {"__setattr__": _no_set, "__delattr__": _no_delete,
                 "__getstate__": _get_state, "__setstate__": _set_state}
    return made


def _init(fields: Fields, frozen: bool, post_init: bool) -> Any:
    """`__init__`; that of a frozen class sets fields by their slots, once these are there: in two
    thirds of the time that `object.__setattr__` takes."""
    known: dict[str, Any] = {"_missing": dataclasses.MISSING}
    kinds = ""
    defaults: list[Any] = []
    for at, field in enumerate(fields.values()):
        default: Any = field.default
        if field.default_factory is not dataclasses.MISSING:
            known[f"_make{at}"] = field.default_factory
            kinds += "f" if field.init else "g"
        elif field.init:
            kinds += "p"
            if default is dataclasses.MISSING and defaults:
                raise TypeError(f"non-default argument {field.name!r} follows default argument")
        else:
            known[f"_default{at}"] = default
            kinds += "d" if default is not dataclasses.MISSING else "-"
        if kinds[-1] == "f" or (kinds[-1] == "p" and default is not dataclasses.MISSING):
            defaults.append(default)
    code, names = _template(kinds, frozen, post_init), list(fields)
    own = {f"{letter}{at}": name for at, name in enumerate(names) for letter in "af"}
    return FunctionType(code.replace(
        co_varnames=tuple(own.get(name, name) for name in code.co_varnames),
        co_names=tuple(own.get(name, name) for name in code.co_names),
    ), known, "__init__", tuple(defaults))


@cache
def _template(kinds: str, frozen: bool, post_init: bool) -> CodeType:
    """The code of `__init__` for fields of certain kinds, one for all classes that are alike but
    for names: `a0`, `f0` and so on are called as the fields then."""
    parameters, lines = ["self"], []
    for at, kind in enumerate(kinds):
        value = {"p": f"a{at}", "f": f"_make{at}() if a{at} is _missing else a{at}",
                 "g": f"_make{at}()", "d": f"_default{at}", "-": ""}[kind]
        if kind in "pf":
            parameters.append(f"a{at}")
        if value:
            lines.append(f"_set{at}(self, {value})" if frozen else f"self.f{at} = {value}")
    lines += ["self.__post_init__()"] if post_init else []
    known: dict[str, Any] = {}
    exec(f"def __init__({', '.join(parameters)}):\n  " + "\n  ".join(lines or ["pass"]), known)
    code: CodeType = known["__init__"].__code__
    return code


def _values(names: list[str]) -> Any:
    """The values of some fields, as a tuple."""
    from operator import attrgetter

    if len(names) > 1:
        return attrgetter(*names)
    if not names:
        return lambda self: ()
    value = attrgetter(names[0])
    return lambda self: (value(self),)


def _equality(names: list[str]) -> Any:
    values = _values(names)

    def __eq__(self: object, other: object) -> bool:
        if other.__class__ is not self.__class__:
            return NotImplemented
        return bool(values(self) == values(other))

    return __eq__


def _hash(names: list[str]) -> Any:
    values = _values(names)
    return lambda self: hash(values(self))


def _repr(self: Any) -> str:
    shown = (n for n, field in self.__dataclass_fields__.items() if field.repr)
    inside = ", ".join(f"{name}={getattr(self, name)!r}" for name in shown)
    return f"{self.__class__.__qualname__}({inside})"


def _no_set(self: object, name: str, value: object) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _no_delete(self: object, name: str) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")


def _get_state(self: Any) -> list[Any]:
    return [getattr(self, name) for name in self.__dataclass_fields__]


def _set_state(self: Any, state: list[Any]) -> None:
    for name, value in zip(self.__dataclass_fields__, state, strict=True):
        object.__setattr__(self, name, value)
