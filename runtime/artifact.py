"""A compiled function as data: a manifest (JSON) that says how to call it, and object code."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, ClassVar

import numpy as np

from dlc.runtime.dims import Expression, format_dim
from dlc.runtime.errors import ArtifactError
from dlc.runtime.memory import DTYPES
from dlc.runtime.printing import PrintSpec
from dlc.runtime.variables import VariableSpec

__all__ = ["ABI", "Artifact", "Manifest", "SizeSpec", "TensorSpec"]

ABI = 4
MAGIC = b"dlc-artifact-1\n"
DIGEST_BYTES = 32


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One argument (or one result, whose name is ""); `text` is its type as the user wrote it."""

    name: str
    dtype: str
    dims: tuple[Expression, ...]
    text: str
    default: float | int | bool | None = None

    @classmethod
    def read(cls, fields: Mapping[str, Any]) -> TensorSpec:
        """From the manifest's fields."""
        dims = tuple(fields["dims"])
        inside = ", ".join(map(format_dim, dims))
        written = f"{fields['dtype']}[{inside}]" if dims else str(fields["dtype"])
        text = fields.get("text") or written
        return cls(fields.get("name", ""), fields["dtype"], dims, text, fields.get("default"))

    @property
    def numpy(self) -> np.dtype[Any]:
        """The NumPy type of an element."""
        return DTYPES[self.dtype]


@dataclass(frozen=True, slots=True)
class SizeSpec:
    """A size that is given as an argument, a whole number; `place` counts all arguments from 0."""

    name: str
    place: int
    default: int | None = None
    text: ClassVar[str] = "int"


@dataclass(frozen=True, slots=True)
class Condition:
    """`left relation right` must hold of the sizes; `text` says it in the user's words."""

    left: Expression
    relation: str
    right: Expression
    text: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What the runtime reads in a manifest, typed."""

    name: str
    entry: str
    layout: str
    symbols: tuple[str, ...]
    inputs: tuple[TensorSpec, ...]
    sizes: tuple[SizeSpec, ...]
    outputs: tuple[TensorSpec, ...]
    variables: tuple[VariableSpec, ...]
    writes: bool
    random: bool
    offsets: int
    conditions: tuple[Condition, ...]
    checks: tuple[tuple[str, str], ...]
    prints: tuple[PrintSpec, ...]
    watched: bool  # whether it has loops that ask `watch`
    batch: str  # the symbol that most of the work grows with
    few: tuple[tuple[int, int], ...]  # up to how many of it there is other code, made for how many
    in_lanes: bool  # whether values lie with a batch in the lanes

    @classmethod
    def read(cls, fields: Mapping[str, Any]) -> Manifest:
        """From JSON; ArtifactError for one that does not fit this runtime."""
        if fields.get("abi") != ABI:
            raise ArtifactError(
                f"the artifact was made for ABI {fields.get('abi')}, this runtime has ABI {ABI}"
            )
        try:
            return cls._read(fields)
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"the artifact's manifest is damaged: {error!r}") from error

    @classmethod
    def _read(cls, fields: Mapping[str, Any]) -> Manifest:
        if "cuda" in fields:  # steps for the host to launch, which no code calls
            fields = {"entry": "", "layout": "", "offsets": 0, "watched": False, **fields}
        variables: Sequence[Mapping[str, Any]] = fields["variables"]
        return cls(
            name=fields["name"],
            entry=fields["entry"],
            layout=fields["layout"],
            symbols=tuple(fields["symbols"]),
            inputs=tuple(map(TensorSpec.read, fields["inputs"])),
            sizes=tuple(
                SizeSpec(each["name"], each["place"], each["default"]) for each in fields["sizes"]
            ),
            outputs=tuple(map(TensorSpec.read, fields["outputs"])),
            variables=tuple(
                VariableSpec.make(each["name"], each["dtype"], each["dims"], each.get("digits"))
                for each in variables
            ),
            writes=any(each["written"] for each in variables),
            random=bool(fields["random"]),
            offsets=int(fields["offsets"]),
            conditions=tuple(
                Condition(each["lhs"], each["op"], each["rhs"], each["text"])
                for each in fields["conditions"]
            ),
            checks=tuple((each["text"], each.get("location", "")) for each in fields["checks"]),
            prints=tuple(
                PrintSpec(tuple(each["parts"]), tuple(each["dtypes"]), tuple(each["ranks"]))
                for each in fields["prints"]
            ),
            batch=fields.get("batch", ""),
            few=tuple((limit, likely) for limit, likely in fields.get("few", ())),
            in_lanes=bool(fields.get("in_lanes", False)),
            watched=bool(fields["watched"]),
        )


class Artifact:
    """A manifest and its object code. `manifest` is the JSON as it came."""

    def __init__(self, manifest: dict[str, Any], object_bytes: bytes) -> None:
        self.manifest = manifest
        self.object_bytes = object_bytes
        self.read = Manifest.read(manifest)

    def to_bytes(self) -> bytes:
        """One file: magic, digest of the rest, length of the JSON (u64), JSON, object code."""
        text = json.dumps(self.manifest, separators=(",", ":")).encode()
        body = len(text).to_bytes(8, "little") + text + self.object_bytes
        return MAGIC + _digest(body) + body

    @classmethod
    def from_bytes(cls, data: bytes) -> Artifact:
        """The inverse of `to_bytes`; ArtifactError for anything else."""
        start = len(MAGIC) + DIGEST_BYTES
        body = data[start:]
        if not data.startswith(MAGIC):
            raise ArtifactError("this is not an artifact of dlc")
        if data[len(MAGIC) : start] != _digest(body):
            raise ArtifactError("the artifact is damaged: its checksum does not match")
        end = 8 + int.from_bytes(body[:8], "little")
        return cls(json.loads(body[8:end]), body[end:])


def _digest(body: bytes) -> bytes:
    return blake2b(body, digest_size=DIGEST_BYTES).digest()
