"""`@dlc.fn` and `@dlc.step`: Python functions that become functions of the language."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from functools import cached_property, update_wrapper
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any, Literal, overload

from dlc.frontend import gpu
from dlc.frontend.elaborate.frames import Frame
from dlc.frontend.elaborate.values import Callee, Instance, Many, Value
from dlc.frontend.python import loaded, places
from dlc.frontend.python.library import python_module
from dlc.frontend.python.trace import current, error, leaf, tracing
from dlc.frontend.python.types import result_syntax, type_syntax
from dlc.frontend.python.values import Operand, call, expression, wrap
from dlc.frontend.text import syntax
from dlc.ir.dataclass import dataclass
from dlc.ir.diagnostics import Span

if TYPE_CHECKING:
    from dlc.frontend.handles import Compiled
    from dlc.frontend.python.models import Model
    from dlc.ir.graph import Graph

Kind = Literal["fn", "step"]


@dataclass(frozen=True, slots=True)
class Signature:
    """What a Python function's annotations say, in the language's words."""

    parameters: tuple[syntax.Parameter, ...]
    result: syntax.TypeExpr | syntax.TupleTypeExpr | None


class Function(Operand):
    """A traced function. Called in a trace it is expanded there; elsewhere it is compiled."""

    def __init__(self, python: Callable[..., Any], kind: Kind) -> None:
        self.python = python
        self.kind: Kind = kind
        self.span = places.of_code(python.__code__)
        self._scope = _names_in_scope()
        self._method = False
        self._alone: syntax.Function | None = None
        self._placed: dict[str, Any] = {}
        update_wrapper(self, python)

    def __set_name__(self, owner: type, name: str) -> None:
        self._method = True

    @overload
    def __get__(self, model: None, owner: type) -> Function: ...
    @overload
    def __get__(self, model: Model, owner: type) -> Bound: ...
    def __get__(self, model: Model | None, owner: type) -> Function | Bound:
        if model is None or not self._method:
            return self
        if not hasattr(model, "__dl_syntax__"):
            raise TypeError(f"{self.__qualname__} is a {self.kind} of a class that is no dlc.Model")
        return Bound(self, model)

    @cached_property
    def signature(self) -> Signature:
        """Its types, each parameter with one."""
        found = inspect.signature(self.python)
        types = _annotations(self.python, self._scope)
        names = list(found.parameters)[1:] if self._method else list(found.parameters)
        parameters = tuple(self._parameter(found.parameters[name], types) for name in names)
        return Signature(parameters, result_syntax(types.get("return"), self.span))

    def _parameter(self, found: inspect.Parameter, types: Mapping[str, Any]) -> syntax.Parameter:
        name, span = found.name, self.span
        if found.kind in (found.VAR_POSITIONAL, found.VAR_KEYWORD) or name not in types:
            raise error("type-mismatch", f"the parameter `{name}` of `{self.__name__}` has no type",
                        span=span, help=f'write `{name}: dlc.f32["N", 10]`')
        default = None if found.default is found.empty else expression(found.default, span)
        return syntax.Parameter(span, syntax.Name(span, name),
                                type_syntax(types[name], span, f"`{name}`"), default)

    def definition(self, model: Model | None = None) -> syntax.Function:
        """It as a definition of the language, whose body is run by Python."""
        signature, span = self.signature, self.span
        names = [parameter.name.text for parameter in signature.parameters]
        first = () if model is None else (model,)

        def run(frame: Frame) -> Value:
            given = {name: wrap(frame, frame.locals[name]) for name in names}
            with tracing(frame):
                result = self.python(*first, **given)
                return _result(frame, result, span)

        body = syntax.Host(span, run, _differentiates(self.python.__code__))
        return syntax.Function(span, self.kind, syntax.Name(span, self.__name__),
                               signature.parameters, signature.result, (), body)

    @property
    def alone(self) -> syntax.Function:
        """Its definition where no model is round it."""
        if self.kind == "step":
            raise error("misplaced", "a `step` stands in a model", span=self.span)
        if self._alone is None:
            self._alone = self.definition()
        return self._alone

    def __dl_syntax__(self, span: Span, whole: bool = False) -> syntax.Expr:
        callee = Callee(self.alone, python_module())
        return leaf(span, lambda frame: callee)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """In a trace: traced values in and out. Elsewhere: NumPy arrays and numbers."""
        if current() is not None:
            return call(self, arguments, named)
        return self.compiled(*arguments, **named)

    @cached_property
    def compiled(self) -> Any:
        """The function as it is run from outside: `Compiled`, or `Open` to ranks and types."""
        return self.on("cpu")

    def on(self, device: str) -> Any:
        """The same on a device: `scores.on("cuda")(x)`. RunError if it is not there."""
        from dlc.frontend.python.units import function_model

        if device not in self._placed:
            gpu.require(device)
            model, name = function_model(self, device), self.__name__
            is_open = name in model.record.open
            self._placed[device] = model.open_function(name) if is_open else model.function(name)
        return self._placed[device]

    @property
    def graph(self) -> Graph:
        """Its Graph."""
        made: Graph = self.compiled.graph
        return made

    def dump(self, stage: str = "graph") -> str:
        """A stage as text: graph, fused, kernels, memory, loops, llvm, asm, cuda, cubin;
        or after a pass."""
        text: str = self.compiled.dump(stage)
        return text

    def __repr__(self) -> str:
        return f"<{self.kind} {self.__qualname__} at {self.span}>"

    if TYPE_CHECKING:
        __name__: str
        __qualname__: str


class Bound(Operand):
    """A function of a model in Python."""

    __slots__ = ("_function", "_model")

    def __init__(self, function: Function, model: Model) -> None:
        self._function = function
        self._model = model

    def __dl_syntax__(self, span: Span, whole: bool = False) -> syntax.Expr:
        part = expression(self._model, span)
        if getattr(type(self._model), self._function.__name__, None) is self._function:
            return syntax.Field(span, part, syntax.Name(span, self._function.__name__))
        definition = self._function.definition(self._model)  # one that a subclass has replaced

        def run(frame: Frame) -> Value:
            owner = frame.evaluate(part)
            assert isinstance(owner, Instance)
            return Callee(definition, python_module(), owner)

        return leaf(span, run)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """In a trace: traced values in and out. Elsewhere: NumPy arrays and numbers."""
        if current() is not None:
            return call(self, arguments, named)
        return self._compiled(*arguments, **named)

    @property
    def _compiled(self) -> Compiled:
        return self._model.function(self._function.__name__)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._compiled, name)

    def __repr__(self) -> str:
        return repr(self._compiled)


def fn(function: Callable[..., Any]) -> Any:
    """Makes a traced function of a Python function whose parameters have types.

    It is pure, but for random draws. Python's `if`, `for` and all else run once, as it is traced.
    """
    return Function(function, "fn")


def step(function: Callable[..., Any]) -> Any:
    """Makes a step of a method of a `dlc.Model`: it may give params and states new values."""
    return Function(function, "step")


def _differentiates(code: CodeType) -> bool:
    """Whether `minimize` or `grad` stands in a body, by name; `training` holds those to it."""
    inner = (each for each in code.co_consts if isinstance(each, CodeType))
    return not {"minimize", "grad"}.isdisjoint(code.co_names) or any(map(_differentiates, inner))


def _result(frame: Frame, result: Any, span: Span) -> Value:
    """What the function returned, as a value of the elaborator."""
    if result is None:
        return Many(())
    return frame.evaluate(expression(result, span))


def _names_in_scope() -> Mapping[str, Any]:
    """The names that an annotation may use, where the decorator stands."""
    frame: FrameType | None = sys._getframe(3)
    found: dict[str, Any] = {}
    while frame is not None:
        found = {**frame.f_locals, **found}
        if frame.f_code.co_flags & inspect.CO_OPTIMIZED or frame.f_code.co_name == "<module>":
            break  # a function, or the file; a class body sees what is round it too
        frame = frame.f_back
    return found


def _annotations(function: Callable[..., Any], scope: Mapping[str, Any]) -> dict[str, Any]:
    """The annotations, evaluated if they are kept as text."""
    found = inspect.get_annotations(function)
    names = {**function.__globals__, **scope}
    return {name: eval(each, names) if isinstance(each, str) else each
            for name, each in found.items()}


loaded.install()
