"""`train` blocks: phases, arguments, schedules, and what is said about wrong ones."""

from __future__ import annotations

from pathlib import Path

import pytest

import dlc
from dlc.frontend.records import PhaseRecord
from tests.frontend.small_mnist import TINY

MODEL = TINY.partition("train Tiny")[0].replace(
    "    step fit", "    fn sharper(x: f32, sharp: f32 = 1.0) -> f32 = x * sharp\n\n    step fit")
WIDE = MODEL.replace("model Tiny {", "model Tiny(outputs: int, unused: int = 7) {").replace(
    "nn.Dense(784, 10)", "nn.Dense(784, outputs)"
)


def load(folder: Path, block: str, model: str = MODEL) -> dlc.Program:
    (folder / "m.dl").write_text(model + block)
    return dlc.load(folder / "m.dl")


def refused(folder: Path, block: str) -> str:
    with pytest.raises(dlc.ProgramError) as caught:
        load(folder, block)
    return str(caught.value)


BASE = 'data = "mnist"\n step = fit\n batch = 8\n epochs = 2\n'


def test_a_block_without_phases_is_one(tmp_path: Path) -> None:
    program = load(tmp_path, f"train Tiny {{ {BASE} lr = 2.0 * 0.25 }}")
    (phase,) = program.model("Tiny").record.phases
    assert phase == PhaseRecord("", "mnist", "fit", None, 8, 2, {"lr": 0.5})


def test_rule_47_phases_take_what_stands_outside_as_their_default(tmp_path: Path) -> None:
    block = f"""train Tiny {{ {BASE}
        phase warm {{ lr = 0.1 * progress, epochs = 1 }}
        phase long {{ test = error_rate
                      batch = 16 }}
    }}"""
    model = load(tmp_path, block).model("Tiny")
    assert model.record.phases == (
        PhaseRecord("warm", "mnist", "fit", None, 8, 1, {"lr": "train.warm.lr"}),
        PhaseRecord("long", "mnist", "fit", "error_rate", 16, 2, {}),
    )
    schedule = model.function("train.warm.lr")
    assert schedule(progress=0.5, epoch=0) == pytest.approx(0.05)


def test_rule_46_a_schedule_knows_progress_and_epoch(tmp_path: Path) -> None:
    block = f"train Tiny {{ {BASE} lr = 0.5 if epoch < 3 else cosine(progress) }}"
    schedule = load(tmp_path, block).model("Tiny").function("train.lr")
    assert schedule(progress=0.0, epoch=2) == 0.5
    assert schedule(progress=0.0, epoch=3) == 1.0
    assert schedule(progress=1.0, epoch=3) == pytest.approx(0.0, abs=1e-6)


def test_rule_46_an_epoch_is_a_number_without_a_type(tmp_path: Path) -> None:
    block = f"train Tiny {{ {BASE} lr = 0.5 * 0.5 ** epoch + progress * epoch }}"
    schedule = load(tmp_path, block).model("Tiny").function("train.lr")
    assert schedule(progress=0.25, epoch=3) == 0.5**4 + 0.75


def test_a_block_may_give_arguments(tmp_path: Path) -> None:
    fixed = WIDE.replace("f32[N, 10]", "f32[N, outputs]")
    program = load(tmp_path, f"train Tiny(12) {{ {BASE} }}", fixed)
    assert program.trained == {"Tiny": {"outputs": 12}}
    assert program.model("Tiny", **program.trained["Tiny"]).layer.b.shape == (12,)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("train Tny { }", "did you mean `Tiny`?"),
        ("train Tiny { }", "does not set `data`"),
        (f"train Tiny {{ {BASE} epochs = 3 }}", "`epochs` is set twice"),
        (f"train Tiny {{ {BASE} lt = 3.0 }}", "did you mean `lr`?"),
        (f"train Tiny {{ {BASE} image = 3.0 }}", "`image` is no setting"),
        (f"train Tiny {{ {BASE} test = eror_rate }}", "did you mean `error_rate`?"),
        (f"train Tiny {{ {BASE.replace('fit', 'digit')} }}", "`step` is a step of Tiny"),
        (f"train Tiny {{ {BASE.replace('mnist', 'minst')} }}", "did you mean `mnist`?"),
        (f"train Tiny {{ {BASE.replace('8', '0')} }}",
         "`batch` is a constant integer that is at least 1"),
        (f"train Tiny {{ {BASE.replace('8', '2.5')} }}",
         "`batch` is a constant integer that is at least 1"),
        (f"train Tiny {{ {BASE} lr = zeros(3) }}", "`lr` is f32"),
        (f"train Tiny {{ {BASE} lr = progres }}", "progres"),
        (f"train Tiny {{ {BASE} lr = true }}", "`lr` is f32, but this is true"),
        (f"train Tiny {{ {BASE} lr = 1e39 }}", "1e+39 does not fit f32"),
        (f"train Tiny {{ {BASE} sharp = 2.0 }}", "`sharp` is no setting"),
        (f"train Tiny {{ {BASE} test = fit }}", "`test` is a function that is no step of Tiny"),
        (f"train Tiny {{ {BASE} phase a {{ lr = 0.1 * progress }}\n phase a {{ }} }}",
         "there are two phases `a`"),
        (f"train Tiny(3) {{ {BASE} }}", "takes 0 arguments"),
        (f"train Tiny {{ {BASE} }}\ntrain Tiny {{ {BASE} }}", "`Tiny` is trained twice"),
    ],
)
def test_refuses(tmp_path: Path, block: str, message: str) -> None:
    said = refused(tmp_path, block)
    assert message in said
    assert "m.dl:" in said


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    said = refused(tmp_path, 'train Tiny { data = "x"\n step = y\n batch = 0\n epochs = 0 }')
    for code, times in (("unknown-data", 1), ("setting-function", 1), ("bad-setting", 2)):
        assert said.count(f"error[{code}]") == times
