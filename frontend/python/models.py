"""`dlc.Model`: models as Python classes."""

from __future__ import annotations

import threading
from abc import ABCMeta
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, NoReturn

from dlc.frontend import driver, gpu
from dlc.frontend.elaborate.frames import Frame
from dlc.frontend.elaborate.values import Listing, Value
from dlc.frontend.errors import user_error
from dlc.frontend.python import places
from dlc.frontend.python.functions import Function
from dlc.frontend.python.trace import current, error
from dlc.frontend.python.types import type_syntax
from dlc.frontend.python.units import Defined, Traced, Unit, part_here
from dlc.frontend.python.values import Delayed, Operand, call, expression, set_member, wrap
from dlc.frontend.text import syntax
from dlc.ir.dataclass import dataclass
from dlc.ir.diagnostics import Span, did_you_mean

if TYPE_CHECKING:
    from dlc.runtime.variables import Variables

__all__ = ["Model", "param", "state"]

_BUILT: Final = ("built", "record", "variable_records", "lock", "name", "_functions", "_storage")
_SETTLING: Final = threading.RLock()
RESERVED: Final = ("built", "definition", "dump", "function", "load", "member", "record", "save",
                   "seed", "span", "storage", "variables")


@dataclass(frozen=True, slots=True)
class Declared:
    """A param or state that a model declares."""

    kind: str
    type: Any
    initial: Any
    span: Span

    def variable(self, name: str) -> syntax.Variable:
        """It as a member of the language's model."""
        span = self.span
        assert self.kind in ("param", "state")
        return syntax.Variable(
            span, self.kind, syntax.Name(span, name),  # type: ignore[arg-type]
            type_syntax(self.type, span, f"`{name}`"), expression(self.initial, span))


def param(type: Any, initial: Any = None) -> Any:
    """A param of a model: `self.w = dlc.param(dlc.f32[10, 20], dlc.glorot_uniform())`.

    `initial` takes the declared shape; without it the param begins as zeros.
    """
    return Declared("param", type, 0.0 if initial is None else initial, places.here())


def state(type: Any, initial: Any = None) -> Any:
    """A state of a model: kept from call to call, not trained; zeros without `initial`."""
    return Declared("state", type, 0 if initial is None else initial, places.here())


class ModelType(ABCMeta):
    """Building: `Net(width, seed=0)` runs `__init__`; after it the members are settled. With
    `device="cuda"` it runs on the GPU, parts and all; a part has no device of its own."""

    def __call__(
        cls, *arguments: Any, seed: int = 0, device: str = "cpu", **named: Any
    ) -> Any:
        gpu.require(device)
        made: Any = object.__new__(cls)  # type: ignore[arg-type]
        made.__dict__.update(_members={}, _ready=False, _holder="", seed=seed, _device=device,
                             span=places.here())
        made.__init__(*arguments, **named)
        made.__dict__["_ready"] = True
        return made


class Model(driver.Model, Defined, metaclass=ModelType):
    """A model: a class whose `__init__` makes params, states and submodels.

    Methods under `@dlc.fn` and `@dlc.step` are its functions. In them, and in `__init__`,
    attributes are what was declared; from outside they are as those of a loaded model: a param is a
    read-only NumPy array, a copy, that may be set; `save`, `load`, `variables` and `seed` are there
    too. Integers that `__init__` sets may stand in dims: `dlc.f32["N", "width"]`.
    """

    def __init__(self) -> None:  # a subclass declares its members here
        pass

    def definition(self) -> syntax.Model:
        """It as a model of the language."""
        span, members = self.span, self._declared()
        made: list[syntax.Variable | syntax.Member | syntax.Function] = []
        for name, member in members.items():
            if isinstance(member, Declared):
                made.append(member.variable(name))
            else:
                made.append(syntax.Member(span, syntax.Name(span, name), expression(member, span)))
        made += [function.definition(self) for function in _functions(type(self))]
        title = syntax.Name(span, type(self).__name__)
        return syntax.Model(span, title, (), (), type(self).__doc__, tuple(made))

    def _declared(self) -> dict[str, Any]:
        found: dict[str, Any] = self.__dict__["_members"]
        return found

    def _settle(self) -> None:
        """Traces all functions, at the first need of what is known from then on."""
        if self.__dict__["_holder"]:
            raise user_error(
                "misplaced", f"this {type(self).__name__} is a part of a {self._holder}",
                "its values belong to the model that holds it: reach them through that one")
        with _SETTLING:
            if "built" not in self.__dict__:
                unit = Unit()
                found = unit.model(self, self.span)
                made = Traced(type(self).__name__, unit, found, self.__dict__["_device"])
                self.__dict__["_unit"] = unit
                super().__init__(made, self.__dict__["seed"])

    def _initialize(self) -> Variables:
        """Initial values; a part that had values before it became one brings them along."""
        variables = super()._initialize()
        for part, path in self._unit.parts:
            had: Variables | None = part.__dict__.get("_storage")
            if part is self or had is None:
                continue
            for each in part.record.variables:
                if not each.kept:
                    variables.set(f"{path}.{each.name}", had.get(each.name))
        return variables

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        frame = current()
        if frame is None:
            return self.function("forward")(*arguments, **named)
        return call(self, arguments, named)

    def __getattr__(self, name: str) -> Any:
        if "_members" not in self.__dict__:
            raise AttributeError(name)
        if name in _BUILT and "built" not in self.__dict__:
            self._settle()
            return self.__dict__[name]
        if name.startswith("__"):
            raise AttributeError(name)
        frame = current()
        if frame is None and self._ready:
            return super().__getattr__(name)
        members = self._declared()
        if name not in members:
            near = did_you_mean(name, [*members, *(f.__name__ for f in _functions(type(self)))])
            raise error("unknown-member", f"`{type(self).__name__}` has no `{name}`", help=near)
        if frame is None:
            return members[name]
        instance = part_here(self, frame, places.here())
        return _seen(frame, members[name], instance.members[name])

    def __setattr__(self, name: str, value: Any) -> None:
        frame, members = current(), self._declared()
        if not self._ready:
            self._declare(name, value)
        elif frame is not None:
            self._update(frame, name, value)
        elif isinstance(members.get(name), Declared):
            super().__setattr__(name, value)
        elif name in members or _is_member(value):
            raise error("misplaced", f"`{name}` is settled: the members of a model are made in "
                        "`__init__`")
        else:
            object.__setattr__(self, name, value)

    def _declare(self, name: str, value: Any) -> None:
        members = self._declared()
        if not _is_member(value):
            if isinstance(value, int) and not isinstance(value, bool):
                members[name] = value  # so that dims may name it
            object.__setattr__(self, name, value)
            return
        if name in RESERVED or name in _BUILT or name.startswith("_"):
            raise error("defined-twice", f"`{name}` can't be the name of a member",
                        help="every model has it already" if name[0] != "_" else
                        "the names of members begin with a letter")
        if name in members:
            raise error("defined-twice", f"`{name}` is defined twice")
        members[name] = value
        for part in _parts(value):
            part.__dict__["_holder"] = type(self).__name__

    def _update(self, frame: Frame, name: str, value: Any) -> None:
        if isinstance(self._declared().get(name), Declared):
            set_member(part_here(self, frame, places.here()), name, value)
        elif isinstance(value, Operand):
            raise error("unknown-member", f"`{type(self).__name__}` has no param or state `{name}`",
                        help=did_you_mean(name, self._declared())
                        or "a traced value can't be kept in an attribute: return it")
        else:
            object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError("the attributes of a model can't be removed")


def _functions(model: type) -> Iterator[Function]:
    """The functions of a class and those it inherits, those that it defines anew once."""
    found: dict[str, Function] = {}
    for each in reversed(model.__mro__):
        found.update({k: v for k, v in vars(each).items() if isinstance(v, Function)})
    return iter(found.values())


def _is_member(value: Any) -> bool:
    """Whether an attribute becomes a member of the model: a variable, submodels, lists of them."""
    if isinstance(value, list | tuple):
        return bool(value) and all(_is_member(item) for item in value)
    return isinstance(value, Declared | Delayed | driver.Model)


def _parts(value: Any) -> Iterator[Model]:
    if isinstance(value, Model):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _parts(item)


def _seen(frame: Frame, declared: Any, value: Value) -> Any:
    """A member as traced Python sees it: a model of Python is itself."""
    if isinstance(declared, Model):
        return declared
    if isinstance(declared, list | tuple) and isinstance(value, Listing):
        return [_seen(frame, *pair) for pair in zip(declared, value.items, strict=True)]
    return wrap(frame, value)
