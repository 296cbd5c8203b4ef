"""Records come back from JSON as they were."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from dlc.frontend.inputs import Input
from dlc.frontend.records import (
    FunctionRecord,
    ModelRecord,
    ParameterRecord,
    PhaseRecord,
    ProgramRecord,
    VariableRecord,
)

FIT = FunctionRecord(
    (
        Input("image", "u8", ("N", 28, ["+", "H", 1]), None, "u8[N, 28, H + 1]"),
        Input("lr", "f32", (), 0.1, "f32"),
    ),
    ("f32", "i32[N]"),
    "step",
)
PHASE = PhaseRecord("", "mnist", "fit", None, 64, 3, {"lr": "train.lr", "decay": 0.5})
WEIGHT = VariableRecord("c1.w", "f32", (6, 1, 5, 5), "param")


def test_model_round_trip() -> None:
    record = ModelRecord({"fit": FIT}, (WEIGHT,), (PHASE,))
    assert ModelRecord.from_json(json.loads(json.dumps(asdict(record)))) == record


def test_program_round_trip() -> None:
    parameter = ParameterRecord("inputs", "int", False)
    record = ProgramRecord({"Dense": (parameter,)}, {"Dense": {"inputs": 3}})
    assert ProgramRecord.from_json(json.loads(json.dumps(asdict(record)))) == record


@pytest.mark.parametrize("kind", [ModelRecord, ProgramRecord])
def test_other_json_is_refused(kind: type[ModelRecord] | type[ProgramRecord]) -> None:
    for other in ({}, {"functions": {"f": {}}, "variables": [], "phases": []}, []):
        with pytest.raises((KeyError, TypeError)):
            kind.from_json(other)  # type: ignore[arg-type]


def test_signatures_read_as_in_the_program() -> None:
    expected = "step fit(image: u8[N, 28, H + 1], lr: f32 = 0.1) -> (f32, i32[N])"
    assert FIT.signature("fit") == expected
    assert str(WEIGHT) == "f32[6, 1, 5, 5]"
    assert str(VariableRecord("t", "f32", (), "optimizer")) == "f32"
