"""A model on disk: a safetensors file with variables, random state and progress.

Tensors lie in logical order under the names of the variables, so that any reader of safetensors can
use them. The metadata (strings, as the format wants) hold `format` (the version), `model`, `random`
("[seed, calls]"), `progress` (JSON of the caller's choice: epoch, position in the data, …) and
`bf16` (JSON list of the names whose u16 elements are bf16 bit patterns).

A file is written to a temporary name of the same folder, synced and renamed: it is the old one or
the new one, never half of either. Writing takes the size of the file in memory once more.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dlc.runtime.errors import CheckpointError
from dlc.runtime.files import write_atomically
from dlc.runtime.memory import DTYPES, Array, describe
from dlc.runtime.variables import Variables

__all__ = ["Checkpoint", "load", "restore", "save"]

FORMAT = "1"
_STORED = {
    "F16": "f16", "BF16": "bf16", "F32": "f32", "F64": "f64", "I8": "i8", "I16": "i16",
    "I32": "i32", "I64": "i64", "U8": "u8", "BOOL": "bool", "U16": "bf16",
}  # fmt: skip
_LISTED = 20  # mismatches that an error spells out


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a file holds. `types` are as in a program, `f32[6, 5]`; `random` is (seed, calls)."""

    tensors: dict[str, Array]
    types: dict[str, str]
    model: str = ""
    random: tuple[int, int] | None = None
    progress: dict[str, Any] = field(default_factory=dict)


def save(
    path: Path | str,
    variables: Variables,
    *,
    model: str = "",
    progress: Mapping[str, Any] | None = None,
    names: Iterable[str] | None = None,
) -> None:
    """Write `variables` (all, or `names`) with their random state; CheckpointError if that fails.

    The values are those between two steps. On failure a file that was there before still is.
    """
    from safetensors.numpy import save as to_bytes

    path = Path(path)
    with variables.lock.reading:
        chosen = list(variables) if names is None else list(names)
        tensors = {name: variables.peek(name) for name in chosen}
        random = [int(part) for part in variables.random]
    metadata = {
        "format": FORMAT,
        "model": model,
        "random": json.dumps(random),
        "progress": json.dumps(dict(progress or {})),
        "bf16": json.dumps([name for name in chosen if variables.spec(name).dtype == "bf16"]),
    }
    try:
        write_atomically(path, to_bytes(tensors, metadata), durable=True)
    except OSError as error:
        raise _unwritten(path, error) from error


def _unwritten(path: Path, error: OSError) -> CheckpointError:
    """One clear sentence for a checkpoint that could not be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        reason = "the disk is full"
    elif not path.parent.is_dir():
        reason = f"there is no folder {path.parent}"
    else:
        reason = error.strerror or str(error)
    kept = "; the file that was there is unchanged" if path.is_file() else ""
    return CheckpointError(f"can't write {path}: {reason}{kept}")


def load(path: Path | str) -> Checkpoint:
    """Read a file of `save` or of another writer of safetensors; CheckpointError if damaged."""
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"can't read {path}: {error.strerror or error}") from error
    try:
        return _parse(data)
    except CheckpointError as error:
        raise CheckpointError(f"can't read {path}: {error}") from error


def _parse(data: bytes) -> Checkpoint:
    """The contents of a file; CheckpointError says what is wrong with them."""
    import safetensors

    read: Callable[[bytes], list[tuple[str, dict[str, Any]]]] = safetensors.deserialize
    try:
        entries = read(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    except (safetensors.SafetensorError, ValueError) as error:
        raise CheckpointError(
            f"it is no safetensors file, or it is cut off or damaged ({error})"
        ) from error
    metadata: dict[str, str] = header.get("__metadata__", {})
    version = metadata.get("format", FORMAT)
    if "random" in metadata and version != FORMAT:
        raise CheckpointError(f"its format is {version}; this version of dlc reads {FORMAT}")
    tensors: dict[str, Array] = {}
    types: dict[str, str] = {}
    for name, entry in entries:
        tensors[name], types[name] = _tensor(name, entry)
    try:
        return Checkpoint(tensors, types, metadata.get("model", ""), *_state(metadata))
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"its metadata are damaged ({error})") from error


def _state(metadata: Mapping[str, str]) -> tuple[tuple[int, int] | None, dict[str, Any]]:
    """Random state and progress, where the file has them."""
    progress = json.loads(metadata.get("progress", "{}"))
    if not isinstance(progress, dict):
        raise ValueError("progress is no object")
    if "random" not in metadata:
        return None, progress
    seed, calls = json.loads(metadata["random"])
    return (int(seed), int(calls)), progress


def _tensor(name: str, entry: Mapping[str, Any]) -> tuple[Array, str]:
    """One tensor and its type."""
    dtype = _STORED.get(entry["dtype"])
    if dtype is None:
        raise CheckpointError(f"`{name}` has elements of type {entry['dtype']}, which dlc lacks")
    array: Array = np.frombuffer(entry["data"], DTYPES[dtype]).reshape(entry["shape"])
    if dtype == "bf16":
        dims = ", ".join(map(str, array.shape))
        return array, f"bf16[{dims}]" if dims else "bf16"
    return array, describe(array.dtype, array.shape)


def restore(
    checkpoint: Checkpoint,
    variables: Variables,
    *,
    names: Iterable[str] | None = None,
    source: str = "the checkpoint",
) -> None:
    """Put the tensors into `variables`, all or nothing; CheckpointError lists every mismatch.

    With `names` only these are read, whatever else the file holds, and the random state stays: that
    is for inference, which has no use for the states of an optimizer. Without, every variable must
    be there, nothing else may be, and the random state is taken over: that is for going on.
    """
    wanted = list(variables) if names is None else list(names)
    faults = _mismatches(checkpoint, variables, wanted, whole=names is None)
    if faults:
        shown = faults[:_LISTED]
        if len(faults) > _LISTED:
            shown.append(f"… and {len(faults) - _LISTED} more")
        raise CheckpointError("\n  ".join([f"{source} does not fit the model:", *shown]))
    variables.set_all({name: checkpoint.tensors[name] for name in wanted})
    if names is None and checkpoint.random is not None:
        with variables.lock:
            variables.random[:] = checkpoint.random


def _mismatches(
    checkpoint: Checkpoint, variables: Variables, wanted: list[str], *, whole: bool
) -> list[str]:
    """What is missing, what has another type, and (where the file is for all) what is too much."""
    faults = []
    for name in wanted:
        expected, found = str(variables.spec(name)), checkpoint.types.get(name)
        if found is None:
            faults.append(f"`{name}` ({expected}) is missing")
        elif found != expected:
            faults.append(f"`{name}` is {found} there, but {expected} in the model")
    if whole:
        faults += [
            f"`{name}` ({found}) is not in the model"
            for name, found in checkpoint.types.items()
            if name not in variables
        ]
    return faults
