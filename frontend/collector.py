"""Rest for Python's collector of cycles while much is made that stays.

Syntax trees, graphs and programs have no cycles: the collector would walk through all of them again
and again, 5 % of the time that compiling takes, and find nothing.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_at_rest() -> Iterator[None]:
    """In this block cycles stay where they are. Who found it at work sets it to work again."""
    worked = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if worked:
            _keep_what_was_made()
            gc.enable()


def _keep_what_was_made() -> None:
    """All that there is counts as old, where the collector looks now and then: else it would walk
    through what was made at once, 7 ms, as if most of that had been let go.

    What the user has frozen stays so, at the cost of that walk.
    """
    if not gc.get_freeze_count():
        gc.freeze()
        gc.unfreeze()
