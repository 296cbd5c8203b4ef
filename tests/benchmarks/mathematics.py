"""The mathematics of the workloads, once for all frameworks.

`o` has the ops of one framework (`with_jax.py`, `with_torch.py`, …) as they are best written
there; `p` holds the weights by their names in the `.dl` programs. Losses are means.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Weights = Mapping[str, Any]


class Missing(Exception):
    """A framework has no such op, or no such workload."""


def _dense(o: Any, p: Weights, name: str, x: Any) -> Any:
    return o.dense(x, p[f"{name}.w"], p[f"{name}.b"])


def _conv(o: Any, p: Weights, name: str, x: Any, **options: int) -> Any:
    return o.conv(x, p[f"{name}.w"], p[f"{name}.b"], **options)


def lenet5_scores(o: Any, p: Weights, x: Any) -> Any:
    """x f32[N, 1, 32, 32] -> f32[N, 10]."""
    maps = o.mean_pool(o.tanh(_conv(o, p, "c1", o.picture(x))))
    maps = o.mean_pool(o.tanh(_conv(o, p, "c3", maps)))
    hidden = o.flat(o.tanh(_conv(o, p, "c5", maps)))
    return _dense(o, p, "output", o.tanh(_dense(o, p, "f6", hidden)))


def lenet5(o: Any, p: Weights, x: Any, y: Any) -> Any:
    return o.cross_entropy(lenet5_scores(o, p, x), y)


def mlp_scores(o: Any, p: Weights, x: Any) -> Any:
    """Two hidden layers with relu: f32[N, inputs] -> f32[N, classes]."""
    return _dense(o, p, "c", o.relu(_dense(o, p, "b", o.relu(_dense(o, p, "a", x)))))


def mlp(o: Any, p: Weights, x: Any, y: Any) -> Any:
    return o.cross_entropy(mlp_scores(o, p, x), y)


def autoencoder(o: Any, p: Weights, x: Any) -> Any:
    hidden = o.relu(_dense(o, p, "b", o.relu(_dense(o, p, "a", x))))
    again = o.sigmoid(_dense(o, p, "d", o.relu(_dense(o, p, "c", hidden))))
    return o.mean_square(again, x)


def words(o: Any, p: Weights, x: Any, y: Any) -> Any:
    mean = o.mean(o.rows(p["words.table"], x), 1)
    return o.cross_entropy(_dense(o, p, "output", mean), y)


def lstm(o: Any, p: Weights, x: Any, y: Any) -> Any:
    hs = o.lstm(o.rows(p["table"], x), p["wx"], p["wh"], p["b"])
    return o.cross_entropy(_dense(o, p, "head", hs), y)


def gru(o: Any, p: Weights, x: Any, y: Any) -> Any:
    weights = (p["gru.wx"], p["gru.wh"], p["gru.b"], p["gru.reset_b"])
    hs = o.gru(o.rows(p["table"], x), *weights)
    return o.cross_entropy(_dense(o, p, "head", hs), y)


def cnn(o: Any, p: Weights, x: Any, y: Any) -> Any:
    maps = o.relu(_conv(o, p, "a", o.picture(x), padding=1))
    maps = o.max_pool(o.relu(_conv(o, p, "b", maps, padding=1)))
    maps = o.relu(_conv(o, p, "c", maps, padding=1))
    maps = o.max_pool(o.relu(_conv(o, p, "d", maps, padding=1)))
    return o.cross_entropy(_dense(o, p, "output", o.mean_of_maps(maps)), y)


def separable_cnn(o: Any, p: Weights, x: Any, y: Any) -> Any:
    maps = o.relu(_conv(o, p, "a", o.picture(x), stride=2, padding=1))
    maps = o.relu(_conv(o, p, "b", maps, padding=1, groups=32))
    maps = o.relu(_conv(o, p, "c", maps))
    maps = o.relu(_conv(o, p, "d", maps, stride=2, padding=1, groups=64))
    maps = o.relu(_conv(o, p, "e", maps))
    return o.cross_entropy(_dense(o, p, "output", o.mean_of_maps(maps)), y)


def _self_attention(o: Any, p: Weights, x: Any) -> Any:
    n, t, width = x.shape
    parts = o.reshape(_dense(o, p, "attention.qkv", x), (n, t, 24, width // 8))
    q, k, v = (o.transpose(part, (0, 2, 1, 3)) for part in o.split(parts, 3, 2))
    mixed = o.transpose(o.attention(q, k, v), (0, 2, 1, 3))
    return _dense(o, p, "attention.output", o.reshape(mixed, (n, t, width)))


def attention_layer(o: Any, p: Weights, x: Any, y: Any) -> Any:
    return o.mean_square(_self_attention(o, p, x), y)


def transformer_block(o: Any, p: Weights, x: Any, y: Any) -> Any:
    mixed = x + _self_attention(o, p, o.layer_norm(x, p["first.scale"], p["first.shift"]))
    even = o.layer_norm(mixed, p["second.scale"], p["second.shift"])
    out = mixed + _dense(o, p, "narrow", o.gelu(_dense(o, p, "wide", even)))
    return o.mean_square(out, y)


def mixer(o: Any, p: Weights, x: Any, y: Any) -> Any:
    even = o.transpose(o.layer_norm(x, p["first.scale"], p["first.shift"]), (0, 2, 1))
    along = _dense(o, p, "narrow", o.gelu(_dense(o, p, "wide", even)))
    mixed = x + o.transpose(along, (0, 2, 1))
    even = o.layer_norm(mixed, p["second.scale"], p["second.shift"])
    return o.mean_square(mixed + _dense(o, p, "down", o.gelu(_dense(o, p, "up", even))), y)


def elementwise(o: Any, p: Weights, x: Any, y: Any) -> Any:
    return o.tanh(x * y + 1.0) * o.sigmoid(x) - o.exp(-x * x)


# Losses of training steps, and functions: by the names in the table of workloads.
MATHEMATICS: Mapping[str, Callable[..., Any]] = {
    f.__name__: f
    for f in (lenet5_scores, lenet5, mlp_scores, mlp, autoencoder, words, lstm, gru, cnn,
              separable_cnn, attention_layer, transformer_block, mixer,
              elementwise)
} | {
    "product": lambda o, p, x, y: o.product(x, y),
    "transposed": lambda o, p, x, y: o.product(o.transpose(x, (1, 0)), y),
    "copy_like": lambda o, p, x, y: o.relu(x * y + 1.0) - 0.5 * x,
    "softmax": lambda o, p, x: o.softmax(x, -1),
    "softmax_first": lambda o, p, x: o.softmax(x, 0),
    "sum_first": lambda o, p, x: o.sum(x, 0),
    "max_first": lambda o, p, x: o.max(x, 0),
    "var_first": lambda o, p, x: o.var(x, 0),
    "mean_middle": lambda o, p, x: o.mean(x, 1),
    "sum_all": lambda o, p, x: o.sum(x, None),
    "attention": lambda o, p, q, k, v: o.attention(q, k, v),
    "conv": lambda o, p, x, w: o.conv(x, w, None, padding=1),
    "depthwise": lambda o, p, x, w: o.conv(x, w, None, padding=1, groups=64),
    "dilated": lambda o, p, x, w: o.dilated(x, w, 4),
    "layer_norm": lambda o, p, x, scale, shift: o.layer_norm(x, scale, shift),
    "batch_norm": lambda o, p, x, scale, shift: o.batch_norm(x, scale, shift),
}


def mathematics_of(name: str) -> Callable[..., Any]:
    """The function of that name; Missing, if it is written in dlc alone."""
    if name not in MATHEMATICS:
        raise Missing("has no such workload")
    return MATHEMATICS[name]
