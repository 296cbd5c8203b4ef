"""Records PyTorch's numbers for the cases of `reference_cases.py`: `python make.py` in this folder.

It needs torch (`pip install '.[bench]'`); the tests that read the files do not.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parents[3]))
from tests.frontend.reference_cases import (
    FUNCTIONS,
    LAYERS,
    OPTIMIZERS,
    RECURRENT,
    STEPS,
    Case,
)

Values = dict[str, Any]


def channels(v: torch.Tensor) -> torch.Tensor:
    """A number for each channel, beside a picture."""
    return v[:, None, None]


def recurrent(kind: Any, x: torch.Tensor, p: Values, biases: Callable[..., Any]) -> torch.Tensor:
    """A recurrent layer of PyTorch, whose weights are ours, transposed."""
    made = kind(x.shape[2], p["wh"].shape[0])
    b_ih, b_hh = biases(p)
    weights = {"weight_ih_l0": p["wx"].T, "weight_hh_l0": p["wh"].T, "bias_ih_l0": b_ih,
               "bias_hh_l0": b_hh}
    return torch.func.functional_call(made, weights, (x,))[0]


def attention(x: torch.Tensor, mask: torch.Tensor, p: Values, causal: bool) -> torch.Tensor:
    """`F.multi_head_attention_forward` on our weights; its masks say what is *not* seen."""
    length = x.shape[1]
    later = torch.ones(length, length, dtype=torch.bool).triu(1) if causal else None
    x = x.transpose(0, 1)
    made, _ = F.multi_head_attention_forward(
        x, x, x, 8, 2, p["qkv.w"].T, p["qkv.b"], None, None, False, 0.0, p["output.w"].T,
        p["output.b"], key_padding_mask=~mask, attn_mask=later)
    return made.transpose(0, 1)


def rnn_biases(p: Values) -> tuple[torch.Tensor, torch.Tensor]:
    return p["b"], torch.zeros_like(p["b"])


def gru_biases(p: Values) -> tuple[torch.Tensor, torch.Tensor]:
    zero = torch.zeros_like(p["reset_b"])
    return p["b"], torch.cat((zero, zero, p["reset_b"]))


def of_x(name: str, v: Values, p: Values) -> torch.Tensor:
    """PyTorch's function of the same name."""
    made: torch.Tensor = getattr(F, name)(v["x"])
    return made


def set_rows(x: torch.Tensor, i: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """`x[i] = y` one after the other, so that the last one of several stays."""
    made = x.clone()
    for place, row in zip(i.tolist(), y, strict=True):
        made[place] = row
    return made


LAYER_REFERENCES: dict[str, Callable[[Values, Values], Any]] = {
    "dense": lambda v, p: v["x"] @ p["w"] + p["b"],
    "conv1d": lambda v, p: F.conv1d(v["x"], p["w"], p["b"], 2, 2, 2),
    "conv2d": lambda v, p: F.conv2d(v["x"], p["w"], p["b"]),
    "conv2d_groups": lambda v, p: F.conv2d(v["x"], p["w"], p["b"], 2, 1, 1, 2),
    "conv2d_dilation": lambda v, p: F.conv2d(v["x"], p["w"], p["b"], 1, 1, 3),
    "depthwise": lambda v, p: F.conv2d(v["x"], p["w"], p["b"], 1, 1, 1, 4),
    "conv_transpose1d": lambda v, p: F.conv_transpose1d(v["x"], p["w"], p["b"], 3, 1),
    "conv_transpose2d": lambda v, p: F.conv_transpose2d(v["x"], p["w"], p["b"], 2, 1, 1),
    "max_pool2d": lambda v, p: F.max_pool2d(v["x"], 2),
    "max_pool2d_overlap": lambda v, p: F.max_pool2d(v["x"], 3, 2, 1),
    "avg_pool2d": lambda v, p: F.avg_pool2d(v["x"], 3, 2, 1),
    "global_max_pool2d": lambda v, p: v["x"].amax((2, 3)),
    "global_avg_pool2d": lambda v, p: v["x"].mean((2, 3)),
    "batch_norm": lambda v, p: F.batch_norm(
        v["x"], torch.zeros(4), torch.ones(4), p["scale"], p["shift"]),
    "batch_norm_train": lambda v, p: F.batch_norm(
        v["x"], None, None, p["scale"], p["shift"], training=True),
    "batch_norm1d_train": lambda v, p: F.batch_norm(
        v["x"], None, None, p["scale"], p["shift"], training=True),
    "layer_norm": lambda v, p: F.layer_norm(v["x"], (6,), p["scale"], p["shift"]),
    "rms_norm": lambda v, p: F.rms_norm(v["x"], (6,), p["scale"], 1e-6),
    "group_norm": lambda v, p: F.group_norm(v["x"], 2, p["scale"], p["shift"]),
    "embedding": lambda v, p: F.embedding(v["i"], p["table"]),
    "rnn": lambda v, p: recurrent(nn.RNN, v["x"], p, rnn_biases),
    "lstm": lambda v, p: recurrent(nn.LSTM, v["x"], p, rnn_biases),
    "gru": lambda v, p: recurrent(nn.GRU, v["x"], p, gru_biases),
    "attention": lambda v, p: attention(v["x"], v["mask"], p, False),
    "attention_causal": lambda v, p: attention(v["x"], v["mask"], p, True),
}

FUNCTION_REFERENCES: dict[str, Callable[[Values, Values], Any]] = {
    **{name: partial(of_x, name) for name in (
        "relu", "leaky_relu", "elu", "selu", "silu", "gelu", "softsign", "softplus")},
    "sigmoid": lambda v, p: torch.sigmoid(v["x"]),
    "log_sigmoid": lambda v, p: F.logsigmoid(v["x"]),
    "tanh": lambda v, p: torch.tanh(v["x"]),
    "softmax": lambda v, p: F.softmax(v["x"], -1),
    "log_softmax": lambda v, p: F.log_softmax(v["x"], -1),
    "softmax_cross_entropy": lambda v, p: F.cross_entropy(v["x"], v["i"]),
    "binary_cross_entropy": lambda v, p: F.binary_cross_entropy_with_logits(
        v["x"], torch.sigmoid(v["y"]), reduction="none"),
    "mean_squared_error": lambda v, p: F.mse_loss(v["x"], v["y"]),
    "mean_absolute_error": lambda v, p: F.l1_loss(v["x"], v["y"]),
    "huber": lambda v, p: F.huber_loss(v["x"], v["y"], reduction="none", delta=0.7),
    "kl_divergence": lambda v, p: F.kl_div(
        F.log_softmax(v["y"], -1), F.log_softmax(v["x"], -1), reduction="none",
        log_target=True).sum(-1),
    "cosine_similarity": lambda v, p: F.cosine_similarity(v["x"], v["y"], -1),
    "unit_rows": lambda v, p: F.normalize(v["x"], dim=-1),
    "hinge": lambda v, p: F.relu(1 - v["x"] * v["y"]),
    "conv3d": lambda v, p: F.conv3d(v["x"], v["y"], None, 2, 1),
    "sort": lambda v, p: torch.sort(v["x"], -1)[0],
    "top_k": lambda v, p: torch.topk(v["x"], 3)[0],
    "cumsum": lambda v, p: torch.cumsum(v["x"], 1),
    "flip": lambda v, p: torch.flip(v["x"], (1,)),
    "var": lambda v, p: torch.var(v["x"], 0, correction=0),
    "min": lambda v, p: torch.min(v["x"], 1)[0],
    "gather": lambda v, p: v["x"][v["i"], :3],
    "gather_two": lambda v, p: v["x"][v["i"], v["i"] + 2],
    "set_at": lambda v, p: set_rows(v["x"], v["i"], v["y"]),
    "einsum": lambda v, p: torch.einsum("ab,cb,cd->ad", v["x"], v["y"], v["x"]),
    "einsum_diagonal": lambda v, p: torch.einsum("ii->i", v["x"].T @ v["x"]),
    "concat_split_stack_pad": lambda v, p: F.pad(torch.cat((
        torch.stack(torch.split(v["x"], 3, 1)), torch.stack((v["y"][:, :3], v["x"][:, 1:4]))), 2),
        (0, 2, 1, 0)),
}

OPTIMIZER_REFERENCES: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda w: torch.optim.SGD(w, 0.1),
    "sgd_momentum": lambda w: torch.optim.SGD(w, 0.1, 0.9),
    "sgd_nesterov_decay": lambda w: torch.optim.SGD(
        w, 0.1, 0.9, nesterov=True, weight_decay=0.05),
    "adagrad": lambda w: torch.optim.Adagrad(w, 0.1),
    "rmsprop": lambda w: torch.optim.RMSprop(w, 0.05),
    "adam": lambda w: torch.optim.Adam(w, 0.1),
    "adamw": lambda w: torch.optim.AdamW(w, 0.1, weight_decay=0.02),
}


def random_input(case: Case, kind: str, shape: tuple[int, ...], draw: Any) -> Any:
    if kind.startswith("i"):
        return draw.integers(0, case.below, shape).astype(np.int32)
    if kind.startswith("bool"):
        made = draw.random(shape) < 0.7
        made[..., 0] = True  # PyTorch gives nan where nothing is seen
        return made
    return draw.normal(size=shape).astype(np.float32)


def record(case: Case, reference: Callable[[Values, Values], Any]) -> Values:
    """Inputs, params, the result, and gradients of its sum weighed by a random seed."""
    draw = np.random.default_rng(sum(case.name.encode()))
    given = {name: random_input(case, kind, shape, draw)
             for name, (kind, shape) in case.inputs.items()}
    params = {name: draw.normal(size=shape).astype(np.float32) * 0.5
              for name, (_, shape) in case.params.items()}
    by = case.differentiated()
    tensors = {name: torch.tensor(v) for name, v in {**given, **params}.items()}
    for name in by:
        tensors[name] = tensors[name].double().requires_grad_()
    with torch.random.fork_rng():
        torch.set_default_dtype(torch.float64)
        result = reference(
            {name: v.long() if v.dtype is torch.int32 else v for name, v in tensors.items()},
            {name.removeprefix("layer."): tensors[name] for name in params})
    seed = torch.tensor(draw.normal(size=tuple(result.shape)).astype(np.float32))
    gradients = torch.autograd.grad((result * seed).sum(), [tensors[name] for name in by])
    numbers = {**{f"given/{name}": v for name, v in {**given, **params}.items()},
               "seed": seed.numpy(), "result": result.detach().numpy().astype(np.float32)}
    for name, gradient in zip(by, gradients, strict=True):
        numbers[f"gradient/{name}"] = gradient.numpy().astype(np.float32)
    return {f"{case.name}/{key}": value for key, value in numbers.items()}


def record_optimizer(name: str) -> Values:
    """The value of w after each step, from one start and one list of gradients for all."""
    draw = np.random.default_rng(5)
    start = draw.normal(size=(3, 4)).astype(np.float32)
    gradients = draw.normal(size=(STEPS, 3, 4)).astype(np.float32)
    w = torch.tensor(start, requires_grad=True)
    optimizer = OPTIMIZER_REFERENCES[name]([w])
    values = []
    for gradient in gradients:
        w.grad = torch.tensor(gradient)
        optimizer.step()
        values.append(w.detach().numpy().copy())
    return {"start": start, "gradients": gradients, f"{name}/values": np.stack(values)}


def main() -> None:
    """Writes the three files beside this one."""
    folder = Path(__file__).parent
    for file, cases, references in (("layers", LAYERS + RECURRENT, LAYER_REFERENCES),
                                    ("functions", FUNCTIONS, FUNCTION_REFERENCES)):
        numbers: Values = {}
        for case in cases:
            numbers |= record(case, references[case.name])
        np.savez_compressed(folder / f"{file}.npz", **numbers)
    numbers = {}
    for name in OPTIMIZERS:
        torch.set_default_dtype(torch.float32)
        numbers |= record_optimizer(name)
    np.savez_compressed(folder / "optimizers.npz", **numbers)


if __name__ == "__main__":
    main()
