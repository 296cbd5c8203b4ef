"""The command line: what it does, what it says, what it returns."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import resource
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

import numpy as np
import pytest

from dlc.compiler.cuda import nvrtc
from dlc.frontend.commands.cli import STAGES, main
from dlc.runtime import checkpoint
from tests.frontend.small_mnist import TINY, idx, write_mnist


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with tiny.dl and its data, in which the command runs."""
    (tmp_path / "tiny.dl").write_text(TINY)
    (tmp_path / "data").mkdir()
    write_mnist(tmp_path / "data" / "mnist", 50)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fails(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 1) -> str:
    """Runs a command that must fail with one message; what it says."""
    assert main(arguments) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert "Traceback" not in said.err
    assert said.err.startswith("error")
    assert said.err.count("\nerror") == 0
    return said.err


def test_help_is_quick_and_complete() -> None:
    """What takes long to import is not imported."""
    script = ("import atexit, sys; from dlc.__main__ import main; "
              "atexit.register(lambda: print(*sys.modules, file=sys.stderr)); main()")
    shown = subprocess.run([sys.executable, "-c", script, "--help"], capture_output=True)
    imported = set(shown.stderr.decode().split())
    assert "dlc.__main__" in imported
    assert not imported & {"numpy", "lark", "llvmlite", "dlc.compiler", "dlc.runtime.pool"}
    for command in (b"check", b"fmt", b"train", b"run", b"dump", b"doctor"):
        assert command in shown.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("fly", "x.dl"),
        ("train",),
        ("train", "x.dl", "--epochs", "many"),
        ("train", "x.dl", "--set", "lr"),
        ("train", "x.dl", "--set", "lr=fast"),
        ("train", "x.dl", "--seed", "-1"),
        ("train", "x.dl", "--epoch", "1"),
        ("dump", "x.dl", "--stage", "soup"),
        ("dump", "x.dl", "--stage", "graph", "--after", "fuse"),
        ("train", "x.dl", "--device", "tpu"),
    ],
)
def test_usage_errors_are_2(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: dlc" in capsys.readouterr().err


def test_our_bug_is_70(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> int:
        raise ZeroDivisionError("a test")

    monkeypatch.setattr("dlc.frontend.commands.cli_doctor.run", broken)
    assert main(["doctor"]) == 70
    assert "This is a fault of dlc, not yours." in capsys.readouterr().err


def test_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert {"LLVM", "threads"} <= set(shown.split())
    assert re.search(r"^linker +(dlc|LLVM: .+)$", shown, re.M)


def test_check(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "tiny.dl"]) == 0
    shown = capsys.readouterr().out
    assert "param layer.w: f32[784, 10]" in shown
    assert "step fit(image: u8[N, 28, 28], label: u8[N], lr: f32 = 0.1) -> f32" in shown
    assert "7,850 numbers to train" in shown
    assert main(["check", "tiny.dl", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told) == {"file", "ok", "errors", "models", "functions"}
    assert (told["file"], told["ok"], told["errors"]) == ("tiny.dl", True, [])
    assert set(told["models"]["Tiny"]["functions"]) >= {"scores", "digit", "error_rate", "fit"}


def test_check_tells_errors_as_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "tiny.dl").write_text("fn f(x: f32[N]) -> f32[N] = y + z\n")
    assert main(["check", "tiny.dl", "--json"]) == 1
    shown = capsys.readouterr()
    assert shown.err == ""
    told = json.loads(shown.out)
    assert (told["ok"], told["models"], told["functions"]) == (False, {}, {})
    assert [(each["code"], each["line"], each["column"]) for each in told["errors"]] == [
        ("unknown-name", 1, 29),
        ("unknown-name", 1, 33),
    ]
    assert {"message", "file", "end_line", "end_column", "notes", "help"} < set(told["errors"][0])
    assert main(["check", "missing.dl", "--json"]) == 1
    (error,) = json.loads(capsys.readouterr().out)["errors"]
    assert error["code"] == "cannot-read"


@pytest.mark.parametrize("command", ["check", "train", "dump"])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "error"),
        ("model {", "error"),
        (TINY.replace("layer(reshape", "lyaer(reshape"), "did you mean `layer`?"),
        (TINY.replace("784, 10", "783, 10"), "784"),
        (TINY.replace("f32(image) / 255.0", "image / 255.0"), "u8"),
        (TINY.replace("fn digit", "fn bad(x: f32) -> f32 { layer.b += x\n return x }\nfn digit"),
         "layer.b"),
    ],
    ids=["empty", "syntax", "unknown", "shape", "dtype", "assignment"],
)  # fmt: skip
def test_bad_programs(
    command: str, text: str, message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "tiny.dl").write_text(text)
    assert main([command, "tiny.dl"]) == 1
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said
    assert "tiny.dl" in said
    assert not list(folder.glob("*.safetensors"))


def test_a_missing_program(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("check", "train", "dump"):
        assert "nowhere.dl" in fails(capsys, command, "nowhere.dl")


def test_bad_data(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = fails(capsys, "train", "tiny.dl", "--data", "elsewhere")
    assert "elsewhere is no folder" in said
    for name, content, message in (
        ("train-images-idx3-ubyte", idx(50, 28, 28)[:-5], "is truncated: expected 39200 elements"),
        ("train-labels-idx1-ubyte", idx(50, elements=bytes([10] * 50)), "label 10 (of example 0)"),
    ):
        bad = write_mnist(folder / name, 50, **{name.replace("-", "_"): content})
        assert message in fails(capsys, "train", "tiny.dl", "--data", str(bad))
    assert not list(folder.glob("*.safetensors"))


def test_bad_settings(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean `lr`?" in fails(capsys, "train", "tiny.dl", "--set", "lt=1")
    assert "`image` can't be set" in fails(capsys, "train", "tiny.dl", "--set", "image=1")
    assert "batch is 0" in fails(capsys, "train", "tiny.dl", "--batch", "0")
    assert "no folder missing" in fails(capsys, "train", "tiny.dl", "--save", "missing/x")
    assert "no `train" in fails(capsys, "train", "tiny.dl", "--model", "Tny")
    (folder / "none.dl").write_text(TINY.partition("train Tiny")[0])
    assert "no `train` block" in fails(capsys, "train", "none.dl")


def train(*arguments: str) -> list[dict[str, object]]:
    """A run in a process of its own; its JSON lines."""
    result = subprocess.run(
        [sys.executable, "-m", "dlc", "train", "tiny.dl", "--json", *arguments],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return [json.loads(line) for line in result.stdout.splitlines()]


def content(file: str) -> tuple[object, ...]:
    """All that a checkpoint says: the bits of its tensors, the random state, the progress."""
    found = checkpoint.load(file)
    bits = {name: array.tobytes() for name, array in sorted(found.tensors.items())}
    return bits, found.types, found.random, found.progress


def test_train_tests_and_saves(folder: Path) -> None:
    *epochs, done = train("--epochs", "2", "--seed", "3", "--set", "lr=0.05", "--batch", "16")
    assert [e["epoch"] for e in epochs] == [1, 2]
    assert epochs[1]["loss"] < epochs[0]["loss"]  # type: ignore[operator]
    assert 0 <= float(str(epochs[1]["error_rate"])) <= 1
    assert done["saved"] == "Tiny.safetensors"
    assert done["seed"] == 3
    assert (folder / "Tiny.safetensors").exists()


def test_training_shows_lines_where_there_is_no_terminal(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "tiny.dl", "--epochs", "1"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    lines = said.out.splitlines()
    assert lines[0].startswith("epoch  1/1   loss ")
    assert "error_rate" in lines[0]
    assert "images/s" in lines[0]
    assert lines[1] == "saved to Tiny.safetensors"


def test_a_terminal_gets_a_bar(folder: Path) -> None:
    child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.executable, [sys.executable, "-m", "dlc", "train", "tiny.dl", "--epochs", "1"])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    shown = b""
    with contextlib.suppress(OSError):  # the terminal is gone once the child has ended
        while part := os.read(terminal, 4096):
            shown += part
    os.waitpid(child, 0)
    assert re.search(rb"epoch 1/1:.*\| 8/50 \[.* images/s, loss \d\.\d{4}\]", shown)
    assert b"error_rate" in shown


def test_ctrl_c_saves_and_resume_gives_the_same_bits(folder: Path) -> None:
    write_mnist(folder / "data" / "mnist", 3000)
    settings = ("--epochs", "40")
    train(*settings, "--save", "whole.safetensors")
    command = [sys.executable, "-m", "dlc", "train", "tiny.dl", "--json", *settings]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130
    assert "go on with: dlc train tiny.dl --resume Tiny.safetensors" in said
    train("--resume", "Tiny.safetensors", "--save", "resumed.safetensors")
    assert content("resumed.safetensors") == content("whole.safetensors")


def test_threads_do_not_change_the_bits(folder: Path) -> None:
    train("--epochs", "1", "--save", "one", "--threads", "1")
    train("--epochs", "1", "--save", "two", "--threads", "2")
    assert content("one") == content("two")


def test_refuses_the_weights_of_another_model(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train("--epochs", "1")
    other = TINY.replace("784, 10", "784, 12").replace("f32[N, 10]", "f32[N, 12]")
    (folder / "other.dl").write_text(other)
    np.save("x.npy", np.zeros((1, 28, 28), np.uint8))
    for command in (
        (
            "run",
            "other.dl",
            "Tiny.digit",
            "--input",
            "image=x.npy",
            "--weights",
            "Tiny.safetensors",
        ),
        ("train", "other.dl", "--resume", "Tiny.safetensors"),
    ):
        said = fails(capsys, *command)
        assert "`layer.w` is f32[784, 10] there, but f32[784, 12] in the model" in said
        assert "`layer.b` is f32[10] there, but f32[12] in the model" in said


def test_refuses_to_resume_what_does_not_fit(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train("--epochs", "1")
    resume = ("train", "tiny.dl", "--resume", "Tiny.safetensors")
    assert "--batch 4" in fails(capsys, *resume, "--batch", "4")
    assert "--seed 4" in fails(capsys, *resume, "--seed", "4")
    said = fails(capsys, *resume, "--precision", "bf16")
    assert "was made with --precision f32, not bf16" in said
    Path("cut.safetensors").write_bytes(Path("Tiny.safetensors").read_bytes()[:-9])
    assert "cut.safetensors" in fails(capsys, "train", "tiny.dl", "--resume", "cut.safetensors")
    assert "none.safetensors" in fails(capsys, "train", "tiny.dl", "--resume", "none.safetensors")


def test_a_full_disk_leaves_what_was_there(folder: Path) -> None:
    """The limit on the size of files stands for the full disk: a write ends in the middle."""
    Path("Tiny.safetensors").write_text("before")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    result = subprocess.run(
        [sys.executable, "-m", "dlc", "train", "tiny.dl", "--epochs", "1"],
        capture_output=True,
        text=True,
        preexec_fn=limit,
        env={**os.environ, "DLC_CACHE": "off"},
    )
    assert result.returncode == 1
    assert result.stderr.startswith("error: can't write Tiny.safetensors")
    assert "Traceback" not in result.stderr
    assert Path("Tiny.safetensors").read_text() == "before"
    assert sorted(os.listdir()) == ["Tiny.safetensors", "data", "tiny.dl"]


def test_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train("--epochs", "1")
    capsys.readouterr()
    np.save("x.npy", np.random.default_rng(0).integers(0, 256, (5, 28, 28)).astype(np.uint8))
    command = ["run", "tiny.dl", "Tiny.digit", "--input", "image=x.npy", "--weights",
               "Tiny.safetensors"]  # fmt: skip
    assert main([*command, "--output", "y.npy", "--json"]) == 0
    digits = np.load("y.npy")
    assert digits.shape == (5,)
    assert digits.dtype == np.int32
    assert json.loads(capsys.readouterr().out) == {"results": [digits.tolist()]}
    assert main(command) == 0
    assert capsys.readouterr().out == f"{digits}\n"


def test_run_refuses(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save("f.npy", np.zeros((5, 28, 28), np.float32))
    np.save("none.npy", np.zeros((0, 28, 28), np.uint8))
    Path("no.npy").write_text("no array")
    run = ("run", "tiny.dl", "Tiny.digit")
    said = fails(capsys, *run, "--input", "image=f.npy")
    assert "u8[N, 28, 28]" in said
    assert "f32[5, 28, 28]" in said
    assert "N is 0" in fails(capsys, *run, "--input", "image=none.npy")
    assert "no.npy is no .npy file" in fails(capsys, *run, "--input", "image=no.npy")
    assert "there is no such file" in fails(capsys, *run, "--input", "image=nowhere.npy")
    assert "`image` (u8[N, 28, 28])" in fails(capsys, *run)
    assert "did you mean `digit`" in fails(capsys, "run", "tiny.dl", "Tiny.digt")
    assert "did you mean `Tiny`" in fails(capsys, "run", "tiny.dl", "Tny.digit")
    assert "it has Tiny.…" in fails(capsys, "run", "tiny.dl", "digit")


def test_run_of_a_function_without_a_model(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("f.dl").write_text("fn twice(x: f32[N], by: f32 = 2.0) -> f32[N] = x * by")
    np.save("x.npy", np.ones(2, np.float32))
    command = ["run", "f.dl", "twice", "--input", "x=x.npy", "--input", "by=3", "--json"]
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out) == {"results": [[3.0, 3.0]]}


@pytest.mark.parametrize("stage", STAGES)
def test_dump(stage: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if stage == "cubin" and not nvrtc.is_here():
        pytest.skip("NVRTC is not installed")
    assert main(["dump", "tiny.dl", "--function", "fit", "--stage", stage]) == 0
    shown = capsys.readouterr().out
    assert {"syntax": "Model Tiny", "llvm": "define", "asm": ".text", "cuda": "__global__",
            "cubin": "bytes for sm_80"}.get(stage, "fit") in shown


def test_dump_for_a_gpu(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["dump", "tiny.dl", "--function", "fit", "--target", "cuda:sm_90a"]
    assert main([*command, "--stage", "kernels"]) == 0
    assert "threads 256" in capsys.readouterr().out
    assert main([*command, "--all", "stages"]) == 0
    assert "files in stages" in capsys.readouterr().out
    names = {file.name.partition("_")[2] for file in Path("stages").iterdir()}
    assert {"choose_gpu_schedules.txt", "emit_cuda.txt", "asm.txt"} - names == {"asm.txt"}
    assert "there is no stage" in fails(capsys, *command, "--stage", "llvm")
    for wrong in ("cuda", "cuda:90", "sm_80"):
        assert "cuda:sm_80" in fails(capsys, *command[:-1], wrong)


def test_dump_all_and_after(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dump", "tiny.dl", "--function", "fit", "--all", "stages"]) == 0
    assert "files in stages" in capsys.readouterr().out
    names = {file.name.partition("_")[2] for file in Path("stages").iterdir()}
    assert {"differentiate.txt", "fuse.txt", "emit.txt", "asm.txt"} <= names
    assert main(["dump", "tiny.dl", "--function", "digit", "--after", "simplify"]) == 0
    assert "graph digit" in capsys.readouterr().out
    assert "simplify" in fails(capsys, "dump", "tiny.dl", "--after", "simplfy")
    assert "--grep [" in fails(capsys, "dump", "tiny.dl", "--grep", "[")


def test_a_closed_pipe_is_no_error(folder: Path) -> None:
    command = f"{sys.executable} -m dlc dump tiny.dl --stage llvm | head -n 1"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert result.stderr == ""
