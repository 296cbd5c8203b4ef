"""Checkpoints: exact round trips, every mismatch at once, and never half a file."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from dlc.runtime import CheckpointError, Variables, checkpoint
from dlc.runtime.variables import VariableSpec

SPECS = [
    VariableSpec.make("c.w", "f32", [20, 3], [[0, 16], [1, 1], [0, 1]]),
    VariableSpec.make("c.half", "bf16", [4]),
    VariableSpec.make("c.on", "bool", [3]),
    VariableSpec.make("fit.adamw.t", "i64", []),
]


def model(seed: int = 0) -> Variables:
    """Variables of several types, filled from `seed`."""
    variables = Variables(seed=seed)
    variables.require(SPECS)
    chooser = np.random.default_rng(seed)
    variables.set("c.w", chooser.normal(size=(20, 3)).astype(np.float32))
    variables.set("c.half", chooser.integers(0, 2**16, 4).astype(np.uint16))
    variables.set("c.on", chooser.integers(0, 2, 3).astype(bool))
    variables.set("fit.adamw.t", np.array(chooser.integers(0, 99)))
    return variables


def same(one: Variables, other: Variables) -> bool:
    """Equal values and random state."""
    equal = all(np.array_equal(one.get(name), other.get(name)) for name in one)
    return equal and one.random.tolist() == other.random.tolist()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A file of `model(1)`."""
    variables = model(1)
    variables.random[1] = 42
    path = tmp_path / "m.safetensors"
    checkpoint.save(path, variables, model="LeNet5", progress={"epoch": 3, "position": [1, 2]})
    return path


def test_round_trip(saved: Path) -> None:
    found = checkpoint.load(saved)
    assert (found.model, found.random) == ("LeNet5", (1, 42))
    assert found.progress == {"epoch": 3, "position": [1, 2]}
    assert found.types["c.half"] == "bf16[4]"
    variables, original = model(7), model(1)
    original.random[1] = 42
    place = variables.random
    checkpoint.restore(found, variables)
    assert same(variables, original)
    assert variables.random is place
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_others_can_read_it(saved: Path) -> None:
    tensors = load_file(saved)
    np.testing.assert_array_equal(tensors["c.w"], model(1).get("c.w"))


def test_weights_only(saved: Path) -> None:
    inference = Variables(seed=9)
    inference.require(SPECS[:2])
    checkpoint.restore(checkpoint.load(saved), inference, names=["c.w", "c.half"])
    np.testing.assert_array_equal(inference.get("c.w"), model(1).get("c.w"))
    assert inference.random.tolist() == [9, 0]


def test_some_names_are_saved(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "w", model(1), names=["c.w"])
    assert list(checkpoint.load(tmp_path / "w").tensors) == ["c.w"]


def test_files_of_other_writers(tmp_path: Path) -> None:
    weights = {"c.w": np.ones((20, 3), np.float32)}
    save_file(weights, tmp_path / "other", {"format": "pt"})
    found = checkpoint.load(tmp_path / "other")
    assert (found.random, found.progress, found.model) == (None, {}, "")
    variables = model(1)
    checkpoint.restore(found, variables, names=["c.w"])
    assert (variables.get("c.w") == 1).all()


def test_all_mismatches_at_once_and_nothing_changes(saved: Path) -> None:
    other = Variables()
    other.require(
        [
            VariableSpec.make("c.w", "f32", [3, 20]),
            VariableSpec.make("c.on", "u8", [3]),
            VariableSpec.make("c.half", "bf16", [4]),
            VariableSpec.make("d.b", "f64", [2]),
        ]
    )
    with pytest.raises(CheckpointError) as caught:
        checkpoint.restore(checkpoint.load(saved), other, source="m.safetensors")
    assert str(caught.value).splitlines() == [
        "m.safetensors does not fit the model:",
        "  `c.w` is f32[20, 3] there, but f32[3, 20] in the model",
        "  `c.on` is bool[3] there, but u8[3] in the model",
        "  `d.b` (f64[2]) is missing",
        "  `fit.adamw.t` (i64) is not in the model",
    ]
    assert not other.get("c.half").any()
    assert other.random.tolist() == [0, 0]


def test_a_long_list_is_cut(tmp_path: Path) -> None:
    save_file({}, tmp_path / "none")
    variables = Variables()
    variables.require([VariableSpec.make(f"v{at}", "f32", [1]) for at in range(50)])
    with pytest.raises(CheckpointError, match=r"`v19` \(f32\[1\]\) is missing\n  … and 30 more$"):
        checkpoint.restore(checkpoint.load(tmp_path / "none"), variables)


def test_cut_and_damaged_files(saved: Path) -> None:
    whole = saved.read_bytes()
    for length in (0, 4, 8, 100, len(whole) - 1):
        saved.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"can't read .*m.safetensors: it is no safe"):
            checkpoint.load(saved)
    saved.write_bytes(whole.replace(b'"[1, 42]"', b'"[1, x2]"'))
    with pytest.raises(CheckpointError, match="metadata are damaged"):
        checkpoint.load(saved)
    saved.write_bytes(whole.replace(b'"format":"1"', b'"format":"9"'))
    with pytest.raises(CheckpointError, match="its format is 9; this version of dlc reads 1"):
        checkpoint.load(saved)
    with pytest.raises(CheckpointError, match=r"can't read .*: No such file"):
        checkpoint.load(saved.with_name("other"))


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_full_disk_keeps_the_old_file(
    saved: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    before = saved.read_bytes()

    def full(handle: int, data: Sequence[int] = ()) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        message = "can't write .*m.safetensors: the disk is full; the file that was there is unch"
        with pytest.raises(CheckpointError, match=message):
            checkpoint.save(saved, model(2))
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_devices_are_written_to_and_links_followed(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"can't write /dev/full: the disk is full"):
        checkpoint.save("/dev/full", model(2))
    assert not Path("/dev/full").is_file()
    link = tmp_path / "link"
    link.symlink_to(saved)
    checkpoint.save(link, model(2))
    assert link.is_symlink()
    assert checkpoint.load(saved).random == (2, 0)
    with pytest.raises(CheckpointError, match="Is a directory"):
        checkpoint.save(tmp_path, model(2))


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no folder"):
        checkpoint.save(tmp_path / "missing" / "m", model())


def test_short_writes_are_continued(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    before = saved.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda handle, data: write(handle, data[:100]))
        variables = model(1)
        variables.random[1] = 42
        progress = {"epoch": 3, "position": [1, 2]}
        checkpoint.save(saved, variables, model="LeNet5", progress=progress)
    assert len(saved.read_bytes()) == len(before)
    assert same_tensors(saved, before)


def same_tensors(path: Path, data: bytes) -> bool:
    """Whether a file holds the tensors of `data`."""
    one, other = checkpoint.load(path).tensors, checkpoint._parse(data).tensors
    return all(np.array_equal(one[name], other[name]) for name in other)


def test_the_mode_of_a_file_stays(saved: Path) -> None:
    saved.chmod(0o640)
    checkpoint.save(saved, model(1))
    assert saved.stat().st_mode & 0o777 == 0o640
