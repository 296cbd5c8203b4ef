"""LeNet-5 as a Python class: tracing it makes the very Graphs of `examples/plain_lenet5.dl`.

Run it: `python examples/python/lenet5.py` learns 32 random pictures by heart.
"""

from __future__ import annotations

import numpy as np

import dlc

N = dlc.symbol("N")


class PlainLeNet5(dlc.Model):
    """Convolutions and pooling, then three dense layers."""

    def __init__(self) -> None:
        self.c1 = dlc.nn.Conv2d(1, 6, kernel=5)
        self.c3 = dlc.nn.Conv2d(6, 16, kernel=5)
        self.c5 = dlc.nn.Conv2d(16, 120, kernel=5)
        self.f6 = dlc.nn.Dense(120, 84)
        self.output = dlc.nn.Dense(84, 10)

    @dlc.fn
    def scores(self, x: dlc.f32[N, 1, 32, 32]) -> dlc.f32[N, 10]:
        for layer in (self.c1, self.c3):  # unrolled, as all of Python is
            x = dlc.avg_pool2d(dlc.tanh(layer(x)), 2)
        x = dlc.reshape(dlc.tanh(self.c5(x)), x.shape[0], 120)
        return self.output(dlc.tanh(self.f6(x)))

    @dlc.step
    def fit(self, x: dlc.f32[N, 1, 32, 32], y: dlc.i32[N], lr: dlc.f32 = 0.01) -> dlc.f32:
        loss = dlc.softmax_cross_entropy(self.scores(x), y)
        dlc.minimize(loss, with_=dlc.sgd(lr=lr))
        return loss


def main() -> None:
    """Trains on noise; prints the first loss and the last."""
    random = np.random.default_rng(0)
    x = random.normal(size=(32, 1, 32, 32)).astype(np.float32)
    y = random.integers(0, 10, 32).astype(np.int32)
    net = PlainLeNet5(seed=0)
    losses = [float(net.fit(x, y, lr=0.1)) for _ in range(60)]
    print(f"loss {losses[0]:.3f}, then {losses[-1]:.3f}")


if __name__ == "__main__":
    main()
