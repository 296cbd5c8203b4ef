"""The collector of cycles: at rest while much is made, and after that as it was found."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from dlc.frontend.collector import collector_at_rest


@pytest.fixture(autouse=True)
def at_work() -> Iterator[None]:
    """The collector as tests found it, at work in each of them."""
    worked = gc.isenabled()
    gc.enable()
    yield
    (gc.enable if worked else gc.disable)()


def is_young(thing: object) -> bool:
    """Whether the next walk of the collector comes by."""
    return any(each is thing for each in gc.get_objects(generation=0))


def test_rests_in_the_block_and_works_again() -> None:
    with collector_at_rest():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_stays_at_rest_for_who_has_it_so() -> None:
    gc.disable()
    with collector_at_rest():
        pass
    assert not gc.isenabled()


def test_what_was_made_is_old_and_still_collected() -> None:
    with collector_at_rest():
        made: list[object] = [{}]
        made.append(made)
        assert is_young(made)
    assert not is_young(made)
    assert not gc.get_freeze_count()
    del made
    assert gc.collect()


def test_what_the_user_has_frozen_stays_so() -> None:
    gc.freeze()
    try:
        frozen = gc.get_freeze_count()
        with collector_at_rest():
            pass
        assert gc.get_freeze_count() == frozen
    finally:
        gc.unfreeze()
