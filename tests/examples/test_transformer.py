"""transformer.dl and masked_words.dl: attention with its mask, blocks, and all gradients."""

from __future__ import annotations

import numpy as np
import pytest

from tests.examples.reference import (
    Array,
    Weights,
    adam_gradients,
    build,
    check_gradients,
    gelu,
    layer_norm,
    log_softmax,
    softmax,
    weights,
)

WORDS, WIDTH, HEADS, DEPTH = 13, 8, 2, 2
RNG = np.random.default_rng(8)
TEXT = RNG.integers(0, WORDS, (3, 5)).astype(np.int32)
MASK = np.arange(5) < np.array([[5], [3], [1]])
TARGET = RNG.integers(0, WORDS, (3, 5)).astype(np.int32)
CHOSEN = MASK & (RNG.random((3, 5)) < 0.7)


def dense(w: Weights, name: str, x: Array) -> Array:
    return x @ w[f"{name}.w"] + w[f"{name}.b"]


def norm(w: Weights, name: str, x: Array) -> Array:
    return layer_norm(x, w[f"{name}.scale"], w[f"{name}.shift"])


def attention(w: Weights, name: str, x: Array) -> Array:
    """Head by head, query by query, over the places that the mask keeps (Vaswani et al. 3.2)."""
    q, k, v = np.split(dense(w, f"{name}.qkv", x), 3, axis=-1)
    size = WIDTH // HEADS
    mixed = np.zeros_like(q)
    for n in range(len(x)):
        for h in range(HEADS):
            part = slice(h * size, (h + 1) * size)
            for at in range(x.shape[1]):
                kept = MASK[n]
                score = k[n, kept, part] @ q[n, at, part] / np.sqrt(size)
                mixed[n, at, part] = softmax(score) @ v[n, kept, part]
    return dense(w, f"{name}.output", mixed)


def encoder(w: Weights, prefix: str) -> Array:
    x = w[f"{prefix}token.table"][TEXT] + w[f"{prefix}place.table"][:5]
    for k in range(DEPTH):
        name = f"{prefix}blocks.{k}"
        x = norm(w, f"{name}.norm1", x + attention(w, f"{name}.attention", x))
        x = norm(w, f"{name}.norm2", x + dense(w, f"{name}.down", gelu(dense(w, f"{name}.up", x))))
    return x


def loss(w: Weights) -> float:
    likely = log_softmax(dense(w, "output", encoder(w, "encoder.")))
    picked = np.take_along_axis(likely, TARGET[..., None].astype(int), -1)[..., 0]
    return float(-(picked * CHOSEN).sum() / CHOSEN.sum())


def test_encoder() -> None:
    model = build("transformer.dl", "Encoder", words=WORDS, width=WIDTH, heads=HEADS, depth=DEPTH,
                  longest=6)
    np.testing.assert_allclose(model(TEXT, MASK), encoder(weights(model), ""), rtol=1e-4, atol=1e-5)


def test_what_is_masked_changes_nothing() -> None:
    model = build("transformer.dl", "Encoder", words=WORDS, width=WIDTH, heads=HEADS, depth=DEPTH)
    other = np.where(MASK, TEXT, (TEXT + 1) % WORDS).astype(np.int32)
    np.testing.assert_array_equal(model(TEXT, MASK)[MASK], model(other, MASK)[MASK])


def test_masked_words() -> None:
    model = build("masked_words.dl", "MaskedWords", words=WORDS, width=WIDTH, heads=HEADS,
                  depth=DEPTH)
    w = {name: v for name, v in weights(model).items() if not name.startswith("fit.")}
    inputs = {"text": TEXT, "mask": MASK, "target": TARGET, "chosen": CHOSEN}
    assert float(model.loss(**inputs)) == pytest.approx(loss(w), rel=1e-5)
    assert float(model.fit(**inputs)) == pytest.approx(loss(w), rel=1e-5)
    found = adam_gradients(model, "fit.adamw")
    assert found.keys() == w.keys()
    size = np.sqrt(sum((g**2).sum() for g in found.values()))
    steep = sum((g * g).sum() for g in found.values()) / size
    assert size <= 1 + 1e-5
    way = {name: g / size for name, g in found.items()}
    ahead = {name: v + 1e-5 * way[name] for name, v in w.items()}
    behind = {name: v - 1e-5 * way[name] for name, v in w.items()}
    steep = (loss(ahead) - loss(behind)) / 2e-5
    assert min(steep, 1.0) == pytest.approx(size, rel=1e-3)
    moving = {n: g * max(steep, 1.0) for n, g in found.items()
              if n != "encoder.blocks.0.attention.qkv.b"}  # keys' biases have no effect at all
    check_gradients(loss, w, moving, rtol=5e-3)


def test_learns() -> None:
    """Fifty steps on one batch: what is hidden is known by heart."""
    model = build("masked_words.dl", "MaskedWords", words=WORDS, width=WIDTH, heads=HEADS,
                  depth=DEPTH)
    inputs = {"text": TEXT, "mask": MASK, "target": TARGET, "chosen": CHOSEN}
    losses = [float(model.fit(**inputs, lr=0.01)) for _ in range(50)]
    assert losses[-1] < 0.2 * losses[0]
