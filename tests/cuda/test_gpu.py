"""What takes a GPU: arrays of PyTorch and CuPy in and out, and a training to the CPU's error."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import dlc
from tests.cuda.on_device import needs_gpu

pytestmark = needs_gpu
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> Any:
    file = tmp_path_factory.mktemp("gpu") / "f.dl"
    file.write_text("fn twice(x: f32[N, 64]) -> f32[N, 64] = x + x\n")
    return dlc.load(file, device="cuda").twice


def test_torch_tensors_in_and_out(twice: Any) -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this PyTorch has no CUDA")
    side = torch.cuda.Stream()
    for _ in range(20):
        with torch.cuda.stream(side):  # what is not waited for has other numbers
            x = torch.randn(1 << 18, 64, device="cuda").cumsum(0)
            back = torch.from_dlpack(twice(x)) + 1
        assert torch.equal(back, x + x + 1)
        assert torch.equal(torch.from_dlpack(twice(x.T.contiguous().T)), x + x)
    shared = torch.as_tensor(twice(x), device="cuda")
    assert torch.equal(shared, x + x)


def test_cupy_arrays_in_and_out(twice: Any) -> None:
    cupy = pytest.importorskip("cupy")
    x = cupy.random.default_rng(0).random((1 << 16, 64), cupy.float32)
    found = twice(x)
    for back in (cupy.asarray(found), cupy.from_dlpack(found)):
        assert bool((back == x + x).all())


@pytest.mark.slow
def test_lenet5_trains_to_the_cpus_error(tmp_path: Path) -> None:
    """By the same seed, order and epochs. The last digits of sums differ, so the errors may by as
    much as those of other seeds do."""
    found = {}
    for device in ("cpu", "cuda"):
        command = [sys.executable, "-m", "dlc", "train", "examples/lenet5.dl", "--json",
                   "--device", device, "--save", tmp_path / f"{device}.safetensors"]
        run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
        found[device] = float(json.loads(run.stdout.splitlines()[-1])["error_rate"])
    assert found["cuda"] <= 0.010
    assert abs(found["cuda"] - found["cpu"]) <= 0.0015
