"""Patches of natural images, whitened: `x f32[N, pixels]`, as square as `pixels` says.

Images are whitened and low-passed as Olshausen and Field did (*Emergence of simple-cell receptive
field properties by learning a sparse code for natural images*, Nature 381, 1996): each frequency f
is weighted by f exp(-(f / f0)**4), f0 being 0.4 cycles a pixel, and the image is then scaled to
unit variance. Patches for tests come from the right eighth of each image, those for training from
the rest, at places drawn once from a fixed seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dlc.frontend.errors import user_error
from dlc.frontend.training.data_set import DataSet, Field, Kind, Parameter, Part

Image = NDArray[np.float64]
CUTOFF: Final = 0.4
PATCHES_TRAIN: Final = 20_000
PATCHES_TEST: Final = 2_000
_DEFAULT: Final = 256


def _fields(wanted: Sequence[Parameter], length: int) -> tuple[Field, ...]:
    dims = next((p.dims for p in wanted if p.name == "x"), ())
    pixels = dims[1] if len(dims) == 2 else None
    square = isinstance(pixels, int) and isqrt(pixels) ** 2 == pixels
    return (Field("x", "f32", (pixels if square and isinstance(pixels, int) else _DEFAULT,)),)


def _load(folder: Path, fields: tuple[Field, ...]) -> DataSet:
    side = isqrt(fields[0].dims[0])
    files = sorted(folder.glob("*.npy"))
    if not files:
        raise user_error("data", f"{folder} holds no .npy files of grey images")
    images = [whiten(_image(file, side)) for file in files]
    rng = np.random.default_rng(0)
    cuts = [image.shape[1] - max(image.shape[1] // 8, side) for image in images]
    train = [image[:, :cut] for image, cut in zip(images, cuts, strict=True)]
    test = [image[:, cut:] for image, cut in zip(images, cuts, strict=True)]
    return DataSet("patches", Part({"x": _patches(rng, train, side, PATCHES_TRAIN)}),
                   Part({"x": _patches(rng, test, side, PATCHES_TEST)}))


def _image(file: Path, side: int) -> Image:
    try:
        image = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise user_error("data", f"{file} can't be read: {error}") from error
    if image.ndim != 2 or image.dtype.kind not in "uif":
        raise user_error("data", f"{file} is no grey image: {image.dtype}{list(image.shape)}")
    if min(image.shape[0], image.shape[1] // 2) < side:
        raise user_error("data", f"{file} is too small for patches of {side} x {side}")
    return np.asarray(image, np.float64)


def whiten(image: Image) -> Image:
    """An image with the amplitudes of its frequencies made alike, mean 0 and variance 1."""
    rows, columns = (np.fft.fftfreq(n) for n in image.shape)
    frequency = np.hypot(rows[:, None], columns[None, :])
    weight = frequency * np.exp(-((frequency / CUTOFF) ** 4))
    flat = np.fft.ifft2(np.fft.fft2(image) * weight).real
    flat -= flat.mean()
    deviation = float(flat.std())
    return flat / deviation if deviation else flat


def _patches(
    rng: np.random.Generator, images: list[Image], side: int, count: int
) -> NDArray[np.float32]:
    """`count` patches, equally many of each image."""
    patches = np.empty((count, side, side), np.float32)
    for number in range(count):
        image = images[number % len(images)]
        row, column = (int(rng.integers(0, n - side + 1)) for n in image.shape)
        patches[number] = image[row:row + side, column:column + side]
    return patches.reshape(count, side * side)


PATCHES: Final = Kind("patches", _fields, _load, "grey images as .npy files", "patches")
