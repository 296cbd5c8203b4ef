"""The Python face: programs, models, functions, variables, checkpoints, the cache."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import dlc
from tests.frontend.small_mnist import TINY

IMAGE = np.random.default_rng(0).integers(0, 256, (6, 28, 28)).astype(np.uint8)
LABEL = np.arange(6, dtype=np.uint8)
BATCH = {"image": IMAGE, "label": LABEL}


@pytest.fixture
def program(tmp_path: Path) -> dlc.Program:
    """The small model, loaded."""
    (tmp_path / "tiny.dl").write_text(TINY)
    return dlc.load(tmp_path / "tiny.dl")


def test_a_program_has_its_models(program: dlc.Program) -> None:
    assert list(program.models) == ["Tiny"]
    assert program.trained == {"Tiny": {}}
    assert "Tiny" in dir(program)
    with pytest.raises(AttributeError, match="no `Tny`; it has Tiny"):
        program.Tny()
    with pytest.raises(dlc.ProgramError, match="did you mean `Tiny`"):
        program.model("Tny")


def test_training_in_python(program: dlc.Program) -> None:
    tiny = program.Tiny(seed=0)
    losses = [float(tiny.fit(**BATCH, lr=0.01)) for _ in range(30)]
    assert losses[-1] < losses[0] / 4
    assert tiny.digit(image=IMAGE).tolist() == LABEL.tolist()
    assert tiny.error_rate(**BATCH) == 0


def test_one_function_takes_any_batch(program: dlc.Program) -> None:
    tiny = program.Tiny()
    together = tiny.scores(image=IMAGE)
    for size in (1, 5):
        np.testing.assert_allclose(tiny.scores(image=IMAGE[:size]), together[:size], rtol=1e-5)


def test_arguments_are_checked_against_the_type(program: dlc.Program) -> None:
    tiny = program.Tiny()
    with pytest.raises(dlc.RunError) as caught:
        tiny.fit(image=IMAGE.astype(np.float32), label=LABEL)
    assert "`image` is f32[6, 28, 28]" in str(caught.value)
    assert "u8[N, 28, 28]" in str(caught.value)
    with pytest.raises(dlc.RunError, match="`label`"):
        tiny.fit(image=IMAGE)
    with pytest.raises(dlc.RunError, match=r"N is 6 in .* but 5"):
        tiny.fit(image=IMAGE, label=LABEL[:5])
    with pytest.raises(dlc.RunError, match="N is 0"):
        tiny.digit(image=IMAGE[:0])


def test_initial_values_follow_the_seed(program: dlc.Program) -> None:
    values = [program.Tiny(seed=seed).layer.w for seed in (0, 0, 1)]
    np.testing.assert_array_equal(values[0], values[1])
    assert (values[0] != values[2]).any()
    bound = np.sqrt(6 / (784 + 10))
    assert np.abs(values[0]).max() <= bound
    assert np.abs(values[0]).max() > 0.9 * bound
    assert not program.Tiny().layer.b.any()


def test_variables_are_read_and_set(program: dlc.Program) -> None:
    tiny = program.Tiny()
    shapes = {name: value.shape for name, value in tiny.variables.items()}
    assert shapes["layer.w"] == (784, 10)
    bias = np.arange(10, dtype=np.float32)
    tiny.layer.b = bias
    tiny.variables["layer.w"] = np.zeros((784, 10), np.float32)
    np.testing.assert_array_equal(tiny.scores(image=IMAGE), np.tile(bias, (6, 1)))
    with pytest.raises(ValueError, match="read-only"):
        tiny.layer.b[0] = 1
    with pytest.raises(dlc.RunError, match=r"`layer.b` is f32\[10\]"):
        tiny.layer.b = np.zeros(9, np.float32)
    with pytest.raises(dlc.ProgramError, match=r"did you mean `layer.b`"):
        tiny.layer.c = bias
    with pytest.raises(AttributeError, match="no `lyaer`"):
        tiny.lyaer.w  # noqa: B018


def test_a_checkpoint_holds_everything(program: dlc.Program, tmp_path: Path) -> None:
    first, second = program.Tiny(seed=1), program.Tiny(seed=2)
    first.fit(**BATCH)
    first.save(tmp_path / "w.safetensors")
    expected = first.fit(**BATCH), first.fit(**BATCH)
    second.load(tmp_path / "w.safetensors")
    assert (second.fit(**BATCH), second.fit(**BATCH)) == expected
    for name, value in first.variables.items():
        np.testing.assert_array_equal(second.variables[name], value)


def test_weights_of_another_writer(program: dlc.Program, tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    weights = {"layer.w": np.ones((784, 10), np.float32), "layer.b": np.ones(10, np.float32)}
    save_file(weights, tmp_path / "w.safetensors")
    tiny = program.Tiny()
    assert tiny.load(tmp_path / "w.safetensors") == {}
    np.testing.assert_array_equal(tiny.layer.w, weights["layer.w"])
    assert np.isfinite(tiny.fit(**BATCH))


@pytest.mark.parametrize("stage", ["graph", "fused", "kernels", "llvm", "asm", "simplify"])
def test_dump(stage: str, program: dlc.Program) -> None:
    text = program.Tiny().fit.dump(stage)
    assert text == program.Tiny().fit.dump(stage)
    assert len(text) > 100


def test_dump_of_no_stage(program: dlc.Program) -> None:
    with pytest.raises(dlc.ProgramError, match=r"no stage or pass called simplfy(.|\n)*simplify"):
        program.Tiny().fit.dump("simplfy")


def test_functions_without_a_model(tmp_path: Path) -> None:
    text = "fn twice(x: f32[N]) -> f32[N] = x + x\nfn any(x: float[*S]) -> float[*S] = x"
    (tmp_path / "f.dl").write_text(text)
    program = dlc.load(tmp_path / "f.dl")
    assert list(program.functions) == ["twice"]
    assert program.twice(x=np.ones(3, np.float32)).tolist() == [2, 2, 2]
    assert repr(program.twice) == "<fn twice(x: f32[N]) -> f32[N]>"


def test_models_take_arguments_by_place_and_by_name(tmp_path: Path) -> None:
    (tmp_path / "m.dl").write_text(
        "model M(w: int, h: int = 2 * w) where h > w {\n param p: f32[h] = ones()\n}\n")
    program = dlc.load(tmp_path / "m.dl")
    assert [m.p.shape for m in (program.M(2), program.M(2, 3), program.M(2, h=5, seed=1),
                                program.model("M", 1))] == [(4,), (3,), (5,), (2,)]
    with pytest.raises(dlc.ProgramError, match="`M` takes 2 arguments, not 3"):
        program.M(1, 2, 3)
    with pytest.raises(dlc.ProgramError, match="`w` is given twice"):
        program.M(1, w=2)
    with pytest.raises(dlc.ProgramError, match="`h > w` does not hold"):
        program.M(2, 2)


def test_signatures(program: dlc.Program) -> None:
    expected = "step Tiny.fit(image: u8[N, 28, 28], label: u8[N], lr: f32 = 0.1) -> f32"
    assert repr(program.Tiny().fit) == f"<{expected}>"


WARM = """
import sys
import numpy as np
import dlc
tiny = dlc.load(sys.argv[1]).Tiny(seed=0)
print(float(tiny.fit(image=np.zeros((2, 28, 28), np.uint8), label=np.zeros(2, np.uint8))))
heavy = {"dlc.compiler.llvm.library", "dlc.compiler.pipeline", "dlc.frontend.text.parse"}
never = {"lark", "llvmlite"}
print(sorted(heavy & set(sys.modules)), sorted(never & set(sys.modules)))
"""


def test_a_second_process_neither_parses_nor_compiles(tmp_path: Path) -> None:
    (tmp_path / "tiny.dl").write_text(TINY)

    def run() -> list[str]:
        result = subprocess.run(
            [sys.executable, "-c", WARM, str(tmp_path / "tiny.dl")],
            capture_output=True,
            text=True,
            env={**os.environ, "DLC_CACHE": str(tmp_path / "cache")},
        )
        assert result.returncode == 0, result.stderr
        return result.stdout.splitlines()

    cold, warm = run(), run()
    assert cold[0] == warm[0]
    heavy = ["dlc.compiler.llvm.library", "dlc.compiler.pipeline", "dlc.frontend.text.parse"]
    assert cold[1] == f"{heavy} []"
    assert warm[1] == ("[] []" if sys.platform == "linux" else "[] ['llvmlite']")
    (tmp_path / "tiny.dl").write_text(TINY.replace("lr: f32 = 0.1", "lr: f32 = 0.2"))
    assert run()[1] == cold[1]
