"""LeNet-5 as a Python class: the same Graph as `examples/lenet5.dl` would make, by tracing.

Run it: `python examples/python/lenet5.py` trains for some steps on digits of noise, to show the
calls; give it arrays of your own for more.
"""

from __future__ import annotations

import numpy as np

import dlc

N = dlc.symbol("N")


@dlc.fn
def prepare(image: dlc.u8[N, 28, 28]) -> dlc.f32[N, 1, 32, 32]:
    """Pixels to about -0.1 … 1.175, on the 32 × 32 field of the paper."""
    field = dlc.pad(dlc.f32(image) / 255.0, (0, 2, 2))
    return field[:, None] * 1.275 - 0.1


class LeNet5(dlc.Model):
    """Convolutions and pooling, then three dense layers."""

    def __init__(self) -> None:
        self.c1 = dlc.nn.Conv2d(1, 6, kernel=5)
        self.c3 = dlc.nn.Conv2d(6, 16, kernel=5)
        self.c5 = dlc.nn.Conv2d(16, 120, kernel=5)
        self.f6 = dlc.nn.Dense(120, 84)
        self.output = dlc.nn.Dense(84, 10)

    @dlc.fn
    def scores(self, image: dlc.u8[N, 28, 28]) -> dlc.f32[N, 10]:
        h = prepare(image)
        for layer in (self.c1, self.c3):
            h = dlc.avg_pool2d(dlc.tanh(layer(h)), 2)
        h = dlc.reshape(dlc.tanh(self.c5(h)), h.shape[0], 120)
        return self.output(dlc.tanh(self.f6(h)))

    @dlc.step
    def fit(
        self, image: dlc.u8[N, 28, 28], label: dlc.u8[N], lr: dlc.f32 = 0.003
    ) -> dlc.f32:
        loss = dlc.softmax_cross_entropy(self.scores(image), label)
        dlc.minimize(loss, with_=dlc.adamw(lr=lr, decay=0.1))
        return loss

    @dlc.fn
    def digit(self, image: dlc.u8[N, 28, 28]) -> dlc.i32[N]:
        return dlc.argmax(self.scores(image), axis=1)


def main() -> None:
    """Learns 32 random pictures by heart."""
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (32, 28, 28)).astype(np.uint8)
    label = random.integers(0, 10, 32).astype(np.uint8)
    net = LeNet5(seed=0)
    for _ in range(60):
        loss = net.fit(image, label)
    right = (net.digit(image) == label).mean()
    print(f"loss {loss:.3f}, {right:.0%} right")


if __name__ == "__main__":
    main()
