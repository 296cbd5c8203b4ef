"""An op of one's own: its formula, its gradient, and a net that trains with it.

Run it: `python examples/python/own_op.py`.
"""

from __future__ import annotations

import numpy as np

import dlc

N = dlc.symbol("N")


def slope(b, g, x, y, *, bend):
    """The derivative is y / sqrt(x² + bend), said in ops of the Graph."""
    square = b.op("add", b.op("mul", x, x), b.constant(bend, x.type))
    return b.op("mul", g, b.op("div", y, b.op("sqrt", square)))


@dlc.register_op(gradient=slope)
def squareplus(b, x, *, bend=4.0):
    """A smooth relu without exponentials: (x + sqrt(x² + bend)) / 2."""
    root = b.primitive("sqrt", b.fma(x, x, b.like(x, bend)))
    return b.mul(b.add(x, root), b.like(x, 0.5))


class Curve(dlc.Model):
    """A curve through points. The op has its name in Python, and in `.dl` text too."""

    def __init__(self, width: int) -> None:
        self.hidden = dlc.nn.Dense(1, width)
        self.out = dlc.nn.Dense(width, 1)

    @dlc.fn
    def forward(self, x: dlc.f32[N, 1]) -> dlc.f32[N, 1]:
        return self.out(dlc.squareplus(self.hidden(x), bend=0.1))

    @dlc.step
    def fit(self, x: dlc.f32[N, 1], y: dlc.f32[N, 1]) -> dlc.f32:
        loss = dlc.mean((self.forward(x) - y) ** 2)
        dlc.minimize(loss, with_=dlc.adam(lr=0.02))
        return loss


def main() -> float:
    """Trains for a moment; the last loss."""
    x = np.linspace(-3, 3, 64, dtype=np.float32)[:, None]
    net = Curve(16, seed=0)
    for _ in range(400):
        loss = net.fit(x, np.sin(x))
    return float(loss)


if __name__ == "__main__":
    print(f"mean square error {main():.4f}")
