"""The pool's protocol, in every order that its threads may take: the emitted code itself is run,
one access to shared memory at a time, and bugs that are planted in it are found."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dlc.runtime.pool_code import pool_ir
from tests.runtime.protocol.explore import explore
from tests.runtime.protocol.machine import Broken, Machine

Stages = tuple[tuple[int, ...], ...]


def emitted() -> str:
    """The pool's code; it looks at the clock after each pause, for what it does in between it does
    again (16 pauses are no other than one)."""
    text = pool_ir("x86_64")
    assert text.count("%turn.1, 16") == 2
    return text.replace("%turn.1, 16", "%turn.1, 0")


@pytest.mark.parametrize("arm", [False, True])
@pytest.mark.parametrize(
    ("callers", "workers", "solo"),
    [
        (((2, 2),), 1, True),
        (((3, 2, 2),), 1, False),
        (((2,), (2,)), 1, False),
        (((2, 2), ()), 1, True),
        (((2,),), 2, False),
        pytest.param(((2,), (2, 2)), 1, False, marks=pytest.mark.slow),
        pytest.param(((2, 2),), 2, False, marks=pytest.mark.slow),
    ],
)
def test_all_orders_are_right(callers: Stages, workers: int, solo: bool, arm: bool) -> None:
    seen = explore(Machine(emitted(), callers, workers, arm=arm, solo=solo))
    assert seen.states > 1000
    assert seen.ends > 1


def replaced(old: str, new: str, within: str = "") -> Callable[[str], str]:
    """A change of one place, the first one behind `within`."""

    def change(text: str) -> str:
        start = text.index(within)
        assert old in text[start:]
        return text[:start] + text[start:].replace(old, new, 1)

    return change


def moved(line: str, before: str, within: str) -> Callable[[str], str]:
    """A line that comes earlier or later, behind `within`."""

    def change(text: str) -> str:
        start = text.index(within)
        at = text.index(line, start)
        without = text[:at] + text[at + len(line):]
        to = without.index(before, start)
        return without[:to] + line.strip() + "\n  " + without[to:]

    return change


CLAIM = """  %swap = cmpxchg ptr %word, i64 %now, i64 %after acq_rel monotonic
  %mine = extractvalue {i64, i1} %swap, 1
"""
ADDS = """  %was = atomicrmw add ptr %word, i64 1 acq_rel
  %front.was.1 = lshr i64 %was, 12
  %front.was = and i64 %front.was.1, 4095
  %back.was = and i64 %was, 4095
  %claimed.was = add i64 %front.was, %back.was
  %mine = icmp slt i64 %claimed.was, %n
"""
FENCE = "  fence seq_cst\n"
NO_FENCE = "  br label %fenced\nfenced:\n"
COUNTED = "  %ignored.0 = atomicrmw add ptr %sleepers, i32 1 seq_cst\n"

TWO: Stages = ((2, 2),)
ASKED: Stages = ((2, 2), ())
PLANTED: dict[str, tuple[Callable[[str], str], Stages, bool, str]] = {
    "a claim adds, whatever the stage": (
        lambda text: replaced("%last, %back", "%last, %back.was", "@take")(
            replaced(CLAIM, ADDS, "@take")(text)),
        ((2, 2, 3),), False, "another stage"),
    "the gen stays": (replaced("add i64 %old, 1", "add i64 %old, 0"), TWO, False,
                      "another stage"),
    "one slot for all stages": (
        lambda text: text.replace("%odd = and i64 %gen, 1", "%odd = and i64 %gen, 0"),
        ((2, 3),), False, "another stage"),
    "the caller looks for sleepers before its store is seen": (
        replaced(FENCE, "", "@stage"), TWO, False, "sleep through"),
    "a worker counts itself after its last look": (
        moved(COUNTED, "%told.1 =", "tire:"), TWO, False, "sleep through"),
    "wake is not counted up": (
        replaced("  %ignored = atomicrmw add ptr %wake, i32 1 seq_cst\n", "", "rouse:"), TWO, False,
        "sleep through"),
    "nobody is woken": (
        replaced("  call void @rouse(ptr %wake, i32 %few.32)\n", "", "@stage"), TWO, False,
        "sleep through"),
    "the word is stored before the slot": (
        moved("  store atomic ptr %args, ptr %args.at monotonic, align 8\n", "%sleepers.at =",
              "@stage"), TWO, False, "another stage"),
    "done is reset when the stage has begun": (
        moved("  store atomic i32 0, ptr %done monotonic, align 4\n",
              "%sleepers.at =", "@stage"), TWO, False, "no way"),
    "the caller does not wait for the last chunk": (
        replaced("%all = icmp eq i32 %ran, %target", "%all = icmp sle i32 %ran, %target", "@stage"),
        TWO, False, "before it is"),
    "the caller sleeps without a look at done": (
        replaced("br i1 %over, label %asleep, label %doze", "br label %doze", "sleep:"), TWO, False,
        "no way"),
    "the caller does not say that it sleeps": (
        replaced("store atomic i32 1, ptr %waiting", "store atomic i32 0, ptr %waiting", "sleep:"),
        TWO, False, "no way"),
    "the last chunk tells nobody": (
        replaced("  call void @rouse(ptr %done, i32 1)\n", "", "@take"), TWO, False, "no way"),
    "two callers own the pool": (
        replaced("br i1 %mine, label %check, label %serial", "br label %check"),
        ((2,), (2,)), False, "more threads begin"),
    "a step without the pool believes that it has it": (
        replaced("[0, %own]", "[1, %own]"), ((2,), (2,)), False, "who is not the owner"),
    "a step goes on with the pool that it has given up": (
        replaced("align 4\n  br label %serial", "align 4\n  br label %check", "give:"), ASKED,
        False, "who is not the owner"),
    "a step takes the pool for its own after it has given it up": (
        replaced("[0, %give]", "[1, %give]"), ASKED, False, "who is not the owner"),
    "a step forgets that it has the pool": (
        replaced("ret i64 1", "ret i64 0", "@dlc_pool_parallel"), TWO, False, "no way"),
    "the end wakes nobody": (
        replaced("  call void @rouse(ptr %wake, i32 2147483647)\n", "", "@dlc_pool_stop"),
        TWO, False, "no way"),
    "a worker does not look at stop before it sleeps": (
        replaced("br i1 %stops.1, label %rise, label %doze", "br label %doze"), TWO, False,
        "no way"),
    "the word is stored without order": (
        replaced("%word release", "%word monotonic", "@stage"), TWO, True,
        "another stage"),
    "a worker's chunk is done before it is seen": (
        replaced("ptr %done, i32 1 acq_rel", "ptr %done, i32 1 monotonic", "@take"), TWO, True,
        "before it is"),
}


@pytest.mark.parametrize("bug", PLANTED)
def test_planted_bugs_are_found(bug: str) -> None:
    change, callers, arm, said = PLANTED[bug]
    text = emitted()
    wrong = change(text)
    assert wrong != text
    with pytest.raises(Broken, match=said):
        explore(Machine(wrong, callers, workers=1, arm=arm, solo=False))
