"""The quick `dataclass` beside the standard one: what can be seen of them is the same."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from dataclasses import field
from typing import Any, ClassVar

import pytest

from dlc.ir.dataclass import dataclass

BOTH = pytest.mark.parametrize("make", [dataclass, dataclasses.dataclass], ids=["ours", "std"])


def classes(make: Any) -> tuple[type, type, type]:
    """A base, one that is derived from it, and one that can be changed."""

    @make(frozen=True, slots=True)
    class Base:
        """A base."""

        one: int
        two: str = "2"

        def doubled(self) -> int:
            return 2 * self.one

    @make(frozen=True, slots=True)
    class Derived(Base):
        """Derived."""

        many: tuple[int, ...] = ()
        kept: dict[str, int] = field(default_factory=dict, compare=False, repr=False)
        later: int = field(default=7, init=False)

        def __post_init__(self) -> None:
            if self.one < 0:
                raise ValueError("negative")

    @make(slots=True)
    class Open:
        """It can be changed."""

        items: list[int] = field(default_factory=list)
        last: float = 0.5

        def __str__(self) -> str:
            return "open"

    for each in (Base, Derived, Open):
        each.__qualname__ = each.__name__
    return Base, Derived, Open


@BOTH
def test_what_is_made(make: Any) -> None:
    base, derived, opened = classes(make)
    one, same = derived(1, many=(2, 3)), derived(1, "2", (2, 3), {"a": 1})
    assert repr(one) == "Derived(one=1, two='2', many=(2, 3), later=7)"
    assert (one, hash(one)) == (same, hash(same))
    assert one != derived(2, many=(2, 3))
    assert one != base(1)
    assert base(1) != "1"
    assert (one.doubled(), one.kept, one.later) == (2, {}, 7)
    assert one.kept is not derived(1).kept
    assert repr(opened()) == "Open(items=[], last=0.5)"
    assert str(opened()) == "open"
    assert opened([1]) == opened([1])
    with pytest.raises(TypeError):
        hash(opened())
    with pytest.raises(ValueError, match="negative"):
        derived(-1)
    assert derived.__match_args__ == ("one", "two", "many", "kept")
    assert (base.__doc__, base.__name__) == ("A base.", "Base")


@BOTH
def test_what_can_not_be_done(make: Any) -> None:
    base, derived, opened = classes(make)
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'one'"):
        base(1).one = 2
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot delete field 'two'"):
        del derived(1).two
    for arguments in ((), (1, "2", (), {}, 5)):
        with pytest.raises(TypeError):
            derived(*arguments)
    changed = opened()
    changed.last = 2.0
    assert changed == opened(last=2.0)
    for instance in (derived(1), changed):
        assert not hasattr(instance, "__dict__")
        with pytest.raises((AttributeError, TypeError)):
            object.__setattr__(instance, "other", 1)


@BOTH
def test_functions_for_dataclasses(make: Any) -> None:
    _, derived, opened = classes(make)
    one = derived(1, kept={"a": 1})
    assert [f.name for f in dataclasses.fields(one)] == ["one", "two", "many", "kept", "later"]
    assert [f.type for f in dataclasses.fields(opened)] == ["list[int]", "float"]
    assert dataclasses.replace(one, two="3") == derived(1, "3")
    assert dataclasses.asdict(one) == {
        "one": 1, "two": "2", "many": (), "kept": {"a": 1}, "later": 7}
    for same in (copy.copy(one), copy.deepcopy(one)):
        assert (same, same.kept) == (one, one.kept)
    match one:
        case derived(first, second):
            assert (first, second) == (1, "2")


@BOTH
@pytest.mark.parametrize("frozen", [True, False])
def test_classes_that_are_alike_but_for_names(make: Any, frozen: bool) -> None:
    @make(frozen=frozen, slots=True)
    class First:
        x: int
        y: int = 1

    @make(frozen=frozen, slots=True)
    class Second:
        u: int
        v: int = 2

    first, second = First(x=5), Second(v=6, u=7)
    assert (first.x, first.y, second.u, second.v) == (5, 1, 7, 6)
    assert list(inspect.signature(Second).parameters) == ["u", "v"]
    assert inspect.signature(Second).parameters["v"].default == 2
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'u'"):
        Second()
    with pytest.raises(TypeError, match="unexpected keyword argument 'x'"):
        Second(x=1)
    with pytest.raises(TypeError, match="non-default argument 'two' follows default argument"):

        @make(frozen=frozen, slots=True)
        class Third:
            one: int = 1
            two: int


@dataclass(frozen=True, slots=True)
class Kept:
    """At the top of a module, so that it can be found again."""

    one: int
    known: ClassVar[int] = 3  # left to the standard decorator


@dataclass(frozen=True, slots=True)
class Alone:
    """With one field."""

    one: tuple[int, ...]


def test_pickles_and_what_is_left_to_the_standard_one() -> None:
    assert Kept.known == 3
    for each in (Kept(4), Alone((1, 2))):
        assert pickle.loads(pickle.dumps(each)) == each
        assert hash(each) == hash(type(each)(each.one))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="mutable default"):

        @dataclass(slots=True)
        class Shared:
            items: list[int] = []  # noqa: RUF012

    @dataclass(frozen=True, slots=True, order=True)
    class Ordered:
        one: int

    assert Ordered(1) < Ordered(2)

    @dataclass(slots=True, eq=False)
    class Identity:
        one: int

    assert Identity(1) != Identity(1)
    assert len({Identity(1), Identity(1)}) == 2
