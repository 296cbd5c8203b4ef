"""The idx reader and the data sets: what is well is read, what is not is refused by name."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from dlc.frontend.errors import UserError
from dlc.frontend.training import data
from dlc.frontend.training.idx import read_idx
from tests.frontend.small_mnist import idx, write_mnist

EXAMPLES = Path(__file__).parents[2] / "examples"


def load_error(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        data.find("mnist").load(folder)
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
    with pytest.raises(UserError, match=r'there is no data set "minst"\n.*help: known are "mnist"'):
        data.find("minst")


def test_mnist_itself() -> None:
    """Counts, classes, mean and deviation as published."""
    folder = data.folder_of("mnist", EXAMPLES / "lenet5.dl", None)
    mnist = data.find("mnist").load(folder)
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
