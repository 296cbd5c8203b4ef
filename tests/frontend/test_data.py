"""The idx reader and the data sets: what is well is read, what is not is refused by name."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from dlc.frontend.errors import UserError
from dlc.frontend.training import data, data_patches
from dlc.frontend.training.idx import read_idx
from tests.frontend.small_mnist import idx, write_mnist

EXAMPLES = Path(__file__).parents[2] / "examples"


def load_error(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        data.find("mnist").load(folder, ())
    return str(caught.value)


@pytest.mark.parametrize("packed", [False, True])
def test_reads_plain_and_gzipped(tmp_path: Path, packed: bool) -> None:
    content = idx(3, 2, 5)
    file = tmp_path / ("x.gz" if packed else "x")
    file.write_bytes(gzip.compress(content) if packed else content)
    read = read_idx(file, (2, 5))
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, (np.arange(30) % 10).reshape(3, 2, 5))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "it begins with , not 00 00 08 02"),
        (b"\x89PNG\r\n\x1a\n", "it begins with 89 50 4e 47"),
        (idx(2, 3, kind=13), "it begins with 00 00 0d 02"),
        (idx(6), "it begins with 00 00 08 01, not 00 00 08 02 (unsigned bytes, 2 dims)"),
        (idx(2, 3)[:7], "its header ends after 7 bytes"),
        (idx(2, 4), "examples of shape 4, expected 3"),
        (idx(0, 3), "holds no examples"),
        (idx(2, 3)[:-1], "expected 6 elements (2x3), found 5"),
        (idx(2, 3) + b"!", "goes on after the 6 elements"),
        (idx(2**32 - 1, 3, elements=b"123"), "can't hold the 12884901885 elements"),
    ],
)
def test_refuses_what_is_no_such_idx(tmp_path: Path, content: bytes, expected: str) -> None:
    file = tmp_path / "broken"
    file.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_idx(file, (3,))
    assert expected in str(caught.value)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("damage", ["cut", "flip", "plain"])
def test_refuses_a_damaged_gzip(tmp_path: Path, damage: str) -> None:
    content = idx(40, 28, elements=np.random.default_rng(0).bytes(40 * 28))
    packed = gzip.compress(content)
    flipped = packed[:-8] + bytes((packed[-8] ^ 1,)) + packed[-7:]
    damaged = {"cut": packed[: len(packed) // 2], "flip": flipped, "plain": content}
    file = tmp_path / "x.gz"
    file.write_bytes(damaged[damage])
    with pytest.raises(UserError, match=r"x\.gz"):
        read_idx(file, (28,))


def test_refuses_labels_out_of_range(tmp_path: Path) -> None:
    labels = bytes([0] * 7 + [11] + [0] * 11 + [200])
    folder = write_mnist(tmp_path / "d", train_labels_idx1_ubyte=idx(20, elements=labels))
    message = load_error(folder)
    assert "label 11 (of example 7) is out of range: expected 0 to 9" in message
    assert "2 of 20" in message


def test_refuses_pictures_and_labels_that_differ(tmp_path: Path) -> None:
    folder = write_mnist(tmp_path / "d", t10k_labels_idx1_ubyte=idx(19))
    assert "20 pictures, but t10k-labels-idx1-ubyte beside it 19 labels" in load_error(folder)


def test_names_a_missing_file_and_folder(tmp_path: Path) -> None:
    folder = write_mnist(tmp_path / "d")
    (folder / "t10k-images-idx3-ubyte").unlink()
    assert "lacks t10k-images-idx3-ubyte (or t10k-images-idx3-ubyte.gz)" in load_error(folder)
    with pytest.raises(UserError, match="is no folder"):
        data.folder_of("mnist", tmp_path / "x.dl", None)


def test_unknown_data_set() -> None:
    with pytest.raises(UserError, match=r'no data set "minst"\n.*help: did you mean `mnist`'):
        data.find("minst")


def test_mnist_itself() -> None:
    """Counts, classes, mean and deviation as published."""
    folder = data.folder_of("mnist", EXAMPLES / "lenet5.dl", None)
    mnist = data.find("mnist").load(folder, ())
    images, labels = mnist.train.arrays["image"], mnist.train.arrays["label"]
    assert images.shape == (60000, 28, 28)
    assert mnist.test.arrays["image"].shape == (10000, 28, 28)
    assert mnist.train.size == 60000
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    np.testing.assert_array_equal(np.bincount(labels.astype(np.int64)), counts)
    histogram = np.bincount(images.reshape(-1)) / images.size
    mean = histogram @ np.arange(256) / 255
    deviation = np.sqrt(histogram @ (np.arange(256) / 255) ** 2 - mean**2)
    assert mean == pytest.approx(0.1307, abs=1e-4)
    assert deviation == pytest.approx(0.3081, abs=1e-4)


class Wanted:
    """A parameter that is fed."""

    def __init__(self, name: str, dtype: str, *dims: object) -> None:
        self.name, self.dtype, self.dims = name, dtype, dims


def test_text_in_windows_that_ask_for_every_byte_once(tmp_path: Path) -> None:
    content = bytes(range(97, 123)) * 40
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(content))
    kind = data.find("text")
    fields = kind.fields((Wanted("text", "i32", "T", "N"),), 9)
    assert str(fields[0]) == "text: i32[9, N]"
    loaded = kind.load(tmp_path, fields)
    windows = loaded.train.arrays["text"]
    asked = np.concatenate([window[1:] for window in windows])
    assert bytes(asked.tobytes()) == content[1 : 1 + len(asked)]
    assert len(asked) > 0.9 * len(content) - 9
    last = loaded.test.arrays["text"]
    assert bytes(last[0].tobytes()) == content[-52:-43]  # the last twentieth of 1040 bytes


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "must hold one .txt or .txt.gz file, and holds none"),
        ({"a.txt": b"x" * 99, "b.txt": b"y" * 99}, "holds a.txt, b.txt"),
        ({"a.txt": b"x" * 30}, "too short: a part of it has 1 bytes, and length is 9"),
        ({"a.txt.gz": b"no gzip"}, "a.txt.gz can't be read"),
    ],
)
def test_a_text_that_is_not_there(tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    kind = data.find("text")
    with pytest.raises(UserError, match=message):
        kind.load(tmp_path, kind.fields((), 9))


def test_patches_are_white_and_parts_apart(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    smooth = rng.standard_normal((96, 160)).cumsum(0).cumsum(1)
    np.save(tmp_path / "a.npy", smooth.astype(np.float32))
    kind = data.find("patches")
    fields = kind.fields((Wanted("x", "f32", "N", 64),), 0)
    assert fields == (data.Field("x", "f32", (64,)),)
    loaded = kind.load(tmp_path, fields)
    assert loaded.train.arrays["x"].shape == (20_000, 64)
    assert loaded.test.arrays["x"].shape == (2_000, 64)
    again = kind.load(tmp_path, fields)
    np.testing.assert_array_equal(loaded.train.arrays["x"], again.train.arrays["x"])
    white = data_patches.whiten(smooth)
    assert white.std() == pytest.approx(1)
    gain = np.abs(np.fft.fft2(white)) / np.abs(np.fft.fft2(smooth))
    for at in (1, 20, 40):
        expected = at * np.exp(-((at / 96 / 0.4) ** 4) + (1 / 96 / 0.4) ** 4)
        assert gain[at, 0] / gain[1, 0] == pytest.approx(expected)


def test_images_that_are_none(tmp_path: Path) -> None:
    kind = data.find("patches")
    fields = kind.fields((), 0)
    for array, message in ((None, "holds no .npy"), (np.zeros((3, 4, 5)), "is no grey image"),
                           (np.zeros((8, 90)), "too small for patches of 16 x 16")):
        if array is not None:
            np.save(tmp_path / "a.npy", array)
        with pytest.raises(UserError, match=message):
            kind.load(tmp_path, fields)


def test_arrays_of_ones_own(tmp_path: Path) -> None:
    kind = data.find("arrays")
    wanted = (Wanted("x", "f32", "N", 3), Wanted("y", "i64", "N"))
    fields = kind.fields(wanted, 0)
    for part, count in (("train", 5), ("test", 2)):
        (tmp_path / part).mkdir()
        np.save(tmp_path / part / "x.npy", np.ones((count, 3), np.float32))
        np.save(tmp_path / part / "y.npy", np.arange(count))
    loaded = kind.load(tmp_path, fields)
    assert (loaded.train.size, loaded.test.size) == (5, 2)
    np.save(tmp_path / "test" / "y.npy", np.arange(3))
    with pytest.raises(UserError, match=r"x.npy has 2, y.npy has 3"):
        kind.load(tmp_path, fields)
    np.save(tmp_path / "test" / "y.npy", np.arange(2.0))
    with pytest.raises(UserError, match=r"float64\[2\], and the program takes y: i64\[N\]"):
        kind.load(tmp_path, fields)
