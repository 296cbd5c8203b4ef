"""Which computes along a row are carried out together, in one sweep over it."""

from __future__ import annotations

from dlc.ir.kernel import Access, Compute


def sweeps(computes: list[Compute]) -> list[list[Compute]]:
    """Computes that follow each other, parted where one has to wait for those before."""
    runs: list[list[Compute]] = []
    for compute in computes:
        run = runs[-1] if runs else []
        if run and compute.over and run[-1].over == compute.over and not _waits(compute, run):
            run.append(compute)
        else:
            runs.append([compute])
    return runs


def _waits(compute: Compute, run: list[Compute]) -> bool:
    """Whether one loop can't do `compute` beside those of `run`, place by place."""
    return any(_meet(compute, other) or _meet(other, compute) for other in run)


def _meet(one: Compute, other: Compute) -> bool:
    """Whether `one` reads what `other` writes or reduces, at another place than its own."""
    reads = [a for a in one.args if isinstance(a, Access) and a.buffer == other.target.buffer]
    return any(a != other.target or other.combine is not None for a in reads)
