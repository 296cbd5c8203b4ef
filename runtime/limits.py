"""How many threads this process may use."""

from __future__ import annotations

import math
import os
from pathlib import Path

from dlc.runtime.errors import TooLargeError, UserError

__all__ = ["allowed_threads", "check_room"]

_SURELY_THERE = 1 << 30  # bytes that every machine is taken to have
_ROOT = Path("/sys/fs/cgroup")


def allowed_threads() -> int:
    """The least of: CPUs of the affinity mask, the cgroup's quota, and `$DLC_THREADS`."""
    limits = [_affinity(), _quota(), _chosen()]
    return max(1, min(limit for limit in limits if limit is not None))


def check_room(size: int) -> None:
    """TooLargeError where `size` bytes are more than the machine's memory: a system that promises
    what it does not have would end the process at some later time."""
    if size <= _SURELY_THERE:
        return
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size > there:
        raise TooLargeError(f"this needs {size:,} bytes of memory, and the machine has {there:,}")


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _chosen() -> int | None:
    """What the environment says; UserError for what is no number of threads."""
    text = os.environ.get("DLC_THREADS", "").strip()
    if not text:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"DLC_THREADS is {text!r}; it must be a number of threads, at least 1")
    return int(text)


def _quota() -> int | None:
    """CPUs that the control groups of this process grant, rounded up; None without a limit."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    shares: list[float] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            shares += [_share_v2(group) for group in _groups(_ROOT, path)]
        elif "cpu" in controllers.split(","):
            shares += [_share_v1(group) for group in _groups(_ROOT / "cpu", path)]
    least = min(shares, default=math.inf)
    return None if least == math.inf else math.ceil(least)


def _groups(root: Path, path: str) -> list[Path]:
    """The folder of a group and of all groups around it: each may set a limit.

    In a container the path is often the host's and not there, but the root is the container's own.
    """
    group = root / path.lstrip("/")
    return [group, *(each for each in group.parents if each.is_relative_to(root))]


def _share_v2(group: Path) -> float:
    """`cpu.max` holds "quota period" or "max period"."""
    try:
        quota, period = (group / "cpu.max").read_text().split()
        return math.inf if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        return math.inf


def _share_v1(group: Path) -> float:
    """Quota and period in two files; a quota of -1 is none."""
    try:
        quota = int((group / "cpu.cfs_quota_us").read_text())
        period = int((group / "cpu.cfs_period_us").read_text())
        return quota / period if quota > 0 else math.inf
    except (OSError, ValueError):
        return math.inf
