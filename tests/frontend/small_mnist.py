"""A small MNIST for tests (idx files, some of which may be made wrong) and a small model for it."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

TINY = '''"""A dense layer on MNIST: small, so that tests are quick."""

import nn

model Tiny {
    layer = nn.Dense(784, 10)

    fn scores(image: u8[N, 28, 28]) -> f32[N, 10] =
        layer(reshape(f32(image) / 255.0, N, 784))

    fn digit(image: u8[N, 28, 28]) -> i32[N] = argmax(scores(image), axis=-1)

    fn error_rate(image: u8[N, 28, 28], label: u8[N]) -> f32 =
        mean(f32(digit(image) != i32(label)))

    step fit(image: u8[N, 28, 28], label: u8[N], lr: f32 = 0.1) -> f32 {
        loss = softmax_cross_entropy(scores(image), label)
        minimize loss with adamw(lr=lr)
        return loss
    }
}

train Tiny {
    data = "mnist"
    step = fit
    test = error_rate
    batch = 8
    epochs = 3
    lr = 0.01 * cosine(progress)
}
'''


def idx(*shape: int, elements: bytes | None = None, kind: int = 8) -> bytes:
    """The bytes of an idx file; elements count up where none are given."""
    if elements is None:
        elements = bytes(i % 10 for i in range(int(np.prod(shape))))
    return struct.pack(f">2x2B{len(shape)}I", kind, len(shape), *shape) + elements


def write_mnist(folder: Path, count: int = 20, **files: bytes) -> Path:
    """A small MNIST in `folder`; `files` replaces some, `_` standing for `-`."""
    folder.mkdir(exist_ok=True)
    for prefix in ("train", "t10k"):
        contents = {
            f"{prefix}-images-idx3-ubyte": idx(count, 28, 28),
            f"{prefix}-labels-idx1-ubyte": idx(count),
        }
        for name, content in contents.items():
            (folder / name).write_bytes(files.get(name.replace("-", "_"), content))
    return folder
