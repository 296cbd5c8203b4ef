"""What commands say to programs: one JSON object a line."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping


def print_json(record: Mapping[str, object]) -> None:
    """Prints an object at once. JSON has no nan and no infinity: they are null."""
    print(json.dumps(_finite(record), allow_nan=False), flush=True)


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return value
