"""`device="cuda"` from end to end over a driver that stands in for NVIDIA's, and its errors."""

from __future__ import annotations

import gc
import multiprocessing
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dlc
from dlc.compiler.cuda import cubin, nvrtc
from dlc.runtime.cuda.driver import must
from dlc.runtime.errors import CheckFailed, GpuError, GpuMemoryError
from tests.cuda import __main__ as proof
from tests.cuda.stand_in import WHY_NOT, code_of, made_driver, needs_stand_in, number

EXAMPLES = Path(__file__).parents[2] / "examples"
SMALL = """
model Small() {
    param w: f32[3] = ones(3)
    fn scaled(x: f32[N, 3]) -> f32[N, 3] { return x * w }
    fn picked(x: f32[N, 3], at: i64[M]) -> f32[M, 3] { return x[at] }
}
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    file = tmp_path / "small.dl"
    file.write_text(SMALL)
    return file


def lenet(device: str) -> Any:
    return dlc.load(EXAMPLES / "lenet5.dl", device=device).LeNet5(seed=3)


@needs_stand_in
def test_a_training_is_the_cpus(on_stand_in: None) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (24, 28, 28), np.uint8)
    labels = rng.integers(0, 10, 24).astype(np.uint8)
    here, there = lenet("cpu"), lenet("cuda")
    for name in here.variables:  # drawn on the device
        np.testing.assert_allclose(there.variables[name], here.variables[name], 1e-5, 1e-6)
    replayed = number("graph_launches").value
    expected = here.fit.run(8, batch=6, image=images, label=labels)
    found = there.fit.run(8, batch=6, image=images, label=labels)
    np.testing.assert_allclose(found, expected, rtol=2e-4)
    assert number("graph_launches").value >= replayed + 6
    for name in here.variables:
        np.testing.assert_allclose(there.variables[name], here.variables[name], 2e-3, 2e-5)


@needs_stand_in
def test_it_goes_on_from_a_checkpoint(on_stand_in: None, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (4, 28, 28), np.uint8)
    labels = rng.integers(0, 10, 4).astype(np.uint8)
    one, other = lenet("cuda"), lenet("cuda")
    one.fit(image=images, label=labels)
    one.save(tmp_path / "kept.safetensors")
    other.load(tmp_path / "kept.safetensors")
    losses = [net.fit(image=images, label=labels) for net in (one, other)]
    assert losses[0] == losses[1]


@needs_stand_in
def test_what_is_set_is_used_and_what_is_written_is_read(on_stand_in: None, small: Path) -> None:
    net = dlc.load(small, device="cuda").Small()
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(net.scaled(x), x)
    net.w = np.array([1, 2, 3], np.float32)
    np.testing.assert_array_equal(net.scaled(x), x * [1, 2, 3])
    large = np.ones((1000, 3), np.float32)  # the arena moves
    np.testing.assert_array_equal(net.scaled(large), large * [1, 2, 3])
    for _ in range(3):
        np.testing.assert_array_equal(net.scaled(x), x * [1, 2, 3])


@needs_stand_in
def test_a_check_that_fails(on_stand_in: None, small: Path) -> None:
    net = dlc.load(small, device="cuda").Small()
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    for _ in range(3):
        np.testing.assert_array_equal(net.picked(x, np.array([1, 0, 1])), x[[1, 0, 1]])
    with pytest.raises(CheckFailed, match="7"):
        net.picked(x, np.array([0, 7]))
    np.testing.assert_array_equal(net.picked(x, np.array([1])), x[[1]])


@needs_stand_in
def test_memory_runs_out(on_stand_in: None, small: Path) -> None:
    net = dlc.load(small, device="cuda").Small()
    x = np.ones((4, 3), np.float32)
    net.scaled(x)
    gc.collect()  # what earlier tests left would be given back in the middle of this one
    number("memory").value = number("used").value + (1 << 20)
    with pytest.raises(GpuMemoryError, match=r"a call of these sizes needs 48,\d+,\d+ bytes on "
                       r"the GPU, which has [\d,]+ free of"):
        net.scaled(np.ones((2_000_000, 3), np.float32))
    np.testing.assert_array_equal(net.scaled(x), x)


@needs_stand_in
def test_a_kernel_that_faults(
    on_stand_in: None, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoiled(text: str, arch: str) -> bytes:
        start = text.index("{\n", text.index('extern "C"')) + 2
        return code_of(text[:start] + "  *(volatile float *)8 = 0;\n" + text[start:])

    monkeypatch.setattr(cubin, "compile_cubin", spoiled)
    net = dlc.load(small, device="cuda")
    x = np.ones((4, 3), np.float32)
    with pytest.raises(GpuError, match=r"the GPU failed.*memory outside of all buffers"):
        net.Small().scaled(x)
    with pytest.raises(GpuError, match="memory outside of all buffers"):
        net.Small().scaled.run(3, batch=2, x=x)
    with pytest.raises(GpuError, match="memory outside of all buffers"):
        np.asarray(net.Small().scaled(dlc.on_gpu(x)))
    with pytest.raises(GpuError, match="could not run a CUDA graph: out of memory"):
        must(2, "run a CUDA graph")


@needs_stand_in
def test_code_for_another_gpu(on_stand_in: None, small: Path) -> None:
    from dlc.runtime import Artifact
    from dlc.runtime.cuda.function import CudaFunction

    net = dlc.load(small, device="cuda").Small()
    made = net.load_function("scaled").artifact
    for arch in ("sm_90", "sm_90a", "sm_86", "sm_75"):
        manifest = {**made.manifest, "cuda": {**made.manifest["cuda"], "arch": arch}}
        with pytest.raises(GpuError, match=f"for {arch}, but the GPU is stand-in"):
            CudaFunction(Artifact(manifest, made.object_bytes))
    with pytest.raises(GpuError, match="does not take the code of scaled"):
        CudaFunction(Artifact(made.manifest, b"nothing"))


def _use(file: Path, said: Any) -> None:
    try:
        dlc.load(file, device="cuda").Small().scaled(np.ones((1, 3), np.float32))
    except GpuError as error:
        said.put(str(error))


@needs_stand_in
def test_a_fork_is_told(on_stand_in: None, small: Path) -> None:
    dlc.load(small, device="cuda").Small().scaled(np.ones((1, 3), np.float32))
    context = multiprocessing.get_context("fork")
    said = context.Queue()
    child = context.Process(target=_use, args=(small, said))
    child.start()
    assert "forked" in said.get(timeout=30)
    child.join()


def told(script: str, **environment: str) -> str:
    """What a process of its own says."""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True,
                         env=os.environ | environment, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


ASK = """
import dlc
try:
    dlc.load({file!r}, device="cuda")
except dlc.RunError as error:
    print(error)
"""


def test_no_pycuda(small: Path) -> None:
    script = "import sys; sys.modules['pycuda'] = None" + ASK.format(file=str(small))
    assert "PyCUDA, which is not here" in told(script)
    assert "pip install 'dlc[cuda]'" in told(script)


@needs_stand_in
def test_no_driver(small: Path) -> None:
    assert "there is no driver of NVIDIA's" in told(ASK.format(file=str(small)))


@needs_stand_in
def test_no_device(small: Path) -> None:
    begin = (f"import ctypes; d = ctypes.CDLL({str(made_driver())!r}, 2 | 0x100); "
             "ctypes.c_int.in_dll(d, 'stand_in_devices').value = 0")
    assert "no CUDA-capable device" in told(begin + ASK.format(file=str(small)))


@needs_stand_in
def test_an_old_driver(small: Path, tmp_path: Path) -> None:
    library = tmp_path / "libcuda.so.1"
    subprocess.run(["gcc", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-x", "c", "-",
                    "-o", library], input="int cuInit(unsigned f) { return 0; }", text=True,
                   check=True)
    said = told(ASK.format(file=str(small)), LD_LIBRARY_PATH=str(tmp_path))
    assert "older than PyCUDA wants" in said


def test_no_such_device(small: Path) -> None:
    with pytest.raises(dlc.ProgramError, match="device is one of cpu, cuda, not 'tpu'"):
        dlc.load(small, device="tpu")


@needs_stand_in
def test_doctor_tells() -> None:
    begin = f"import ctypes; ctypes.CDLL({str(made_driver())!r}, 2 | 0x100)\n"
    ask = "from dlc.frontend.commands.cli import main; main(['doctor'])"
    assert "stand-in, sm_80, a driver for CUDA 13.0" in told(begin + ask)
    assert "GPU       none: there is no driver" in told(ask)


@needs_stand_in
def test_a_process_ends_well(small: Path) -> None:
    """With variables, code and an arena on the device."""
    begin = (f"import ctypes; ctypes.CDLL({str(made_driver())!r}, 2 | 0x100)\n"
             "from dlc.compiler.cuda import cubin\nfrom tests.cuda.stand_in import code_of\n"
             "cubin.compile_cubin = lambda text, arch: code_of(text)\n"
             f"import dlc, numpy\nnet = dlc.load({str(small)!r}, device='cuda').Small()\n"
             "for _ in range(3): print(net.scaled(numpy.ones((1, 3), numpy.float32)))\n")
    assert told(begin, DLC_CACHE="off").count("[[1. 1. 1.]]") == 3


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="there is no nvcc on this machine")
def test_nvcc_where_there_is_no_nvrtc(monkeypatch: pytest.MonkeyPatch, small: Path) -> None:
    monkeypatch.setattr(nvrtc, "is_here", lambda: False)
    text = dlc.load(small).Small().scaled.dump("cuda")
    made = cubin.compile_cubin(text, "sm_90a")
    assert made.startswith(b"\x7fELF")
    assert cubin.compile_cubin("#define WIDE_INDICES\n" + text, "sm_90a") != made
    with pytest.raises(dlc.ProgramError, match="no GPU architecture called sm_999"):
        cubin.compile_cubin(text, "sm_999")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(dlc.ProgramError, match="by NVRTC or by nvcc, and neither is here"):
        cubin.compile_cubin(text, "sm_80")


def test_the_command_for_a_gpu_says_that_there_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    if not WHY_NOT:  # its driver may be loaded in this process
        run = subprocess.run([sys.executable, "-m", "tests.cuda"], capture_output=True, text=True)
        assert run.returncode == 1
        assert "nothing was run: there is no driver of NVIDIA's" in run.stderr
    with pytest.raises(SystemExit):
        proof.main(["nothing"])
    assert "no such step: nothing" in capsys.readouterr().err


@needs_stand_in
def test_pytest_says_that_there_is_no_gpu() -> None:
    run = subprocess.run([sys.executable, "-m", "pytest", "--gpu", "tests/cuda/test_gpu.py"],
                         capture_output=True, text=True)
    assert run.returncode != 0
    assert "--gpu: there is no driver of NVIDIA's" in run.stderr
