"""How a training run is shown: a progress bar, a line an epoch, or JSON lines for programs."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from dlc.frontend.json_lines import print_json
from dlc.frontend.training.train import Record
from dlc.frontend.training.train_plan import Phase

REFRESH_SECONDS = 0.1


class Report:
    """The observer of a run: the bar to stderr (on a terminal only), results to stdout."""

    def __init__(self, unit: str, as_json: bool) -> None:
        self._unit = unit
        self._as_json = as_json
        self._bar: Any = None
        self._epochs = 0
        self._shown = 0.0  # when the bar last moved

    def begin_epoch(self, phase: Phase, epoch: int, examples: int, done: int) -> None:
        """A new bar, that starts where a resumed epoch does."""
        self._epochs = phase.epochs
        if not sys.stderr.isatty():
            return
        from tqdm import tqdm

        label = f"{phase.name} {epoch + 1}/{phase.epochs}".strip()
        self._bar = tqdm(
            total=examples, initial=done, desc=f"epoch {label}", unit=f" {self._unit}",
            leave=False, dynamic_ncols=True, file=sys.stderr,
        )  # fmt: skip

    def stepped(self, examples: int, loss: float) -> None:
        """Counts a step; the bar moves ten times a second, whatever a step takes."""
        if self._bar is None:
            return
        self._bar.n += examples
        now = time.perf_counter()
        if now - self._shown >= REFRESH_SECONDS:
            self._shown = now
            self._bar.set_postfix_str(f"loss {loss:.4f}")

    def end_epoch(self, record: Record) -> None:
        """The epoch's results."""
        self.close()
        if self._as_json:
            print_json({"event": "epoch", **record})
            return
        words = [f"epoch {record['epoch']:>2}/{self._epochs}"]
        if "phase" in record:
            words.insert(0, str(record["phase"]))
        measured = {k: v for k, v in record.items() if isinstance(v, float)}
        rate = measured.pop("examples_per_second")
        seconds = measured.pop("seconds")
        words += [f"{name} {value:.4f}" for name, value in measured.items()]
        words += [f"{seconds:.1f} s", f"{rate:,.0f} {self._unit}/s"]
        print("   ".join(words), flush=True)

    def summary(self, record: Mapping[str, object]) -> None:
        """The last word of a run; `saved` in it names the file."""
        self.close()
        if self._as_json:
            print_json({"event": "done", **record})
        else:
            print(f"saved to {record['saved']}", flush=True)

    def close(self) -> None:
        """Takes the bar away, if there is one."""
        if self._bar is not None:
            self._bar.close()
        self._bar = None
