"""Records PyTorch's numbers for examples/zoo: `python make.py` in this folder.

It needs torch (`pip install '.[bench]'`); the tests that read the file do not.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parents[3]))
import dlc
from tests.examples.zoo.cases import FOLDER, MODELS, inputs, weights

Weights = dict[str, torch.Tensor]
EXAMPLES = Path(__file__).parents[3] / "examples" / "zoo"


def dense(w: Weights, name: str, x: torch.Tensor) -> torch.Tensor:
    return x @ w[f"{name}.w"] + w[f"{name}.b"]


def decoder(w: Weights, text: Any, next: Any) -> torch.Tensor:
    def norm(name: str, x: torch.Tensor) -> torch.Tensor:
        return F.rms_norm(x, x.shape[-1:], w[f"{name}.scale"], 1e-6)

    x = w["embedding.table"][text.long()]
    for k in range(2):
        name = f"blocks.{k}"
        q, k_, v = torch.einsum("ntw,cwhd->cnhtd", norm(f"{name}.norm1", x), w[f"{name}.qkv"])
        mixed = F.scaled_dot_product_attention(q, k_, v, is_causal=True)
        x = x + torch.einsum("nhtd,hdw->ntw", mixed, w[f"{name}.mix"])
        y = norm(f"{name}.norm2", x)
        x = x + dense(w, f"{name}.down",
                      F.silu(dense(w, f"{name}.gate", y)) * dense(w, f"{name}.up", y))
    scores = norm("norm", x) @ w["embedding.table"].T
    return F.cross_entropy(scores.flatten(0, 1), next.long().flatten())


def values(w: Weights, name: str, x: torch.Tensor) -> torch.Tensor:
    h = F.relu(dense(w, f"{name}.a", x))
    better = dense(w, f"{name}.better", h)
    return dense(w, f"{name}.value", h) + better - better.mean(1, keepdim=True)


def dqn(w: Weights, x: Any, action: Any, reward: Any, next: Any, done: Any) -> torch.Tensor:
    rows = torch.arange(len(x))
    with torch.no_grad():
        ahead = values(w, "target", next)[rows, values(w, "online", next).argmax(-1)]
        goal = reward + 0.99 * torch.where(done, 0.0, ahead)
    return F.huber_loss(values(w, "online", x)[rows, action.long()], goal)


def follow(w: Weights, turn: int) -> None:
    """Every second step the target follows."""
    for name in w:
        if turn % 2 and name.startswith("target"):
            w[name].data += 0.1 * (w[name.replace("target", "online")].data - w[name].data)


def hmm(w: Weights, seen: Any) -> torch.Tensor:
    move, show = F.log_softmax(w["moves"], -1), F.log_softmax(w["shows"], -1).T
    a = F.log_softmax(w["first"], -1) + show[seen[0].long()]
    for now in seen[1:]:
        a = torch.logsumexp(a[:, :, None] + move, 1) + show[now.long()]
    return -torch.logsumexp(a, -1).mean() / len(seen)


def maml(w: Weights, x: Any, y: Any, x2: Any, y2: Any) -> torch.Tensor:
    def predict(x: torch.Tensor, u: Any, b: Any, v: Any) -> torch.Tensor:
        return (torch.tanh(x @ u + b) @ v)[:, 0]

    at, total = [w["w1"], w["b1"], w["w2"]], torch.zeros(())
    for task in range(len(x)):
        loss = F.mse_loss(predict(x[task], *at), y[task])
        slopes = torch.autograd.grad(loss, at, create_graph=True)
        moved = [p - 0.3 * g for p, g in zip(at, slopes, strict=True)]
        total = total + F.mse_loss(predict(x2[task], *moved), y2[task])
    return total / len(x)


def unet(w: Weights, x: Any, target: Any) -> torch.Tensor:
    def pair(name: str, x: torch.Tensor) -> torch.Tensor:
        for part in "ab":
            x = F.relu(F.conv2d(x, w[f"{name}.{part}.w"], w[f"{name}.{part}.b"], padding=1))
        return x

    x, skips = pair("first", x), []
    for k in (0, 1):
        skips.append(x)
        x = pair(f"down.{k}", F.max_pool2d(x, 2))
    for k in (1, 0):
        grown = F.conv_transpose2d(x, w[f"up.{k}.w"], w[f"up.{k}.b"], stride=2)
        x = pair(f"merge.{k}", torch.cat((skips[k], grown), 1))
    logits = F.conv2d(x, w["output.w"], w["output.b"])
    return F.binary_cross_entropy_with_logits(logits, target)


def wgan(w: Weights, real: Any, z: Any, mix: Any) -> torch.Tensor:
    def critic(x: torch.Tensor) -> torch.Tensor:
        x = F.conv2d(x, w["critic.c1.w"], w["critic.c1.b"], stride=2, padding=1)
        x = F.conv2d(F.leaky_relu(x, 0.2), w["critic.c2.w"], w["critic.c2.b"], stride=2, padding=1)
        return dense(w, "critic.output", torch.tanh(x).flatten(1))[:, 0]

    x = F.silu(dense(w, "generator.input", z).reshape(-1, 8, 2, 2))
    for k in (1, 2):
        x = F.conv_transpose2d(x, w[f"generator.c{k}.w"], w[f"generator.c{k}.b"], stride=2,
                               padding=1)
        x = F.silu(x) if k == 1 else torch.tanh(x)
    fake = x.detach()
    between = (fake + mix[:, None, None, None] * (real - fake)).requires_grad_()
    (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    size = (slope**2).sum((1, 2, 3)).sqrt()
    return critic(fake).mean() - critic(real).mean() + 10.0 * ((size - 1.0) ** 2).mean()


LOSSES: dict[str, Callable[..., torch.Tensor]] = {
    "decoder": decoder, "dqn": dqn, "hmm": hmm, "maml": maml, "unet": unet, "wgan": wgan}
RATES = {"dqn": 0.05, "hmm": 0.1, "maml": 0.1, "unet": 0.1, "wgan": 0.01}


def record(program: str) -> dict[str, Any]:
    """The loss of each step, and all params after the last."""
    model = dlc.load(EXAMPLES / f"{program}.dl").model(MODELS[program])
    shapes = {name: model.variables[name].shape
              for name, each in model.variable_records.items() if each.role == "param"}
    w = {name: torch.from_numpy(array).requires_grad_() for name, array in weights(shapes).items()}
    moved = list(w.values())
    optimizer: torch.optim.Optimizer = (
        torch.optim.AdamW(moved, 0.01) if program == "decoder"
        else torch.optim.SGD(moved, RATES[program]))
    losses = []
    for turn, given in enumerate(inputs(program)):
        optimizer.zero_grad(set_to_none=True)
        loss = LOSSES[program](w, **{k: torch.from_numpy(v) for k, v in given.items()})
        loss.backward()
        optimizer.step()
        follow(w, turn)
        losses.append(loss.item())
    last = np.concatenate([w[name].detach().numpy().ravel() for name in sorted(w)])
    return {f"{program}/losses": np.array(losses, "f4"), f"{program}/params": last}


if __name__ == "__main__":
    numbers = {key: value for program in MODELS for key, value in record(program).items()}
    np.savez_compressed(FOLDER / "zoo.npz", **numbers)
