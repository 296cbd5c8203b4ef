"""What is measured on a GPU: the workloads of a CPU at its sizes, and what each is held to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from tests.benchmarks.shapes import Drawn, Product, Workload, normal, whole
from tests.benchmarks.workloads import SEVEN, gemm

LARGE = (16384, 4096)


@dataclass(frozen=True, slots=True)
class Row:
    """A workload and what is asked of it.

    `bandwidth` is the part of the measured copy bandwidth, `rate` are TFLOP/s, `beside` are the
    peers whose best counts, with what our speed over theirs has to be. `half`: its inputs are bf16.
    """

    workload: Workload
    bandwidth: float = 0.0
    rate: float = 0.0
    beside: tuple[str, ...] = ()
    speedup: float = 0.0
    half: bool = False

    @property
    def asked(self) -> str:
        """As the table tells it."""
        parts = [f"≥ {self.bandwidth:.0%} of a copy"] * bool(self.bandwidth)
        parts += [f"≥ {self.rate:g} TFLOP/s"] * bool(self.rate)
        parts += [f"≥ {self.speedup:g} × {' / '.join(self.beside)}"] * bool(self.beside)
        return ", ".join(parts)

    @property
    def moved(self) -> int:
        """Bytes of inputs and of results, each once."""
        inputs = self.workload.inputs
        given = sum(x.nbytes for x in inputs.values())
        made = sum(inputs[name].nbytes for name in self.workload.wrt) or inputs["x"].nbytes
        return given + made


def _rows() -> list[Row]:
    x, scale = normal(*LARGE), {"scale": normal(LARGE[1]), "shift": normal(LARGE[1])}
    whole_gb = {"x": normal(16384, 16384), "y": normal(16384)}
    both = ("torch_compile",)
    norms = {"x": x, **scale}
    bf16 = replace(gemm(4096), name="gemm4096_bf16", program="products.dl product_of_halves")
    return [
        Row(Workload("copy_like_1gb", "elements.dl copy_like", "forward", whole_gb, "copy_like"),
            0.88),
        Row(replace(SEVEN["elementwise"], name="elementwise_1gb", inputs=whole_gb), beside=both,
            speedup=1),  # three functions an element are more work than memory
        Row(Workload("softmax_large", "elements.dl rows", "forward", {"x": x}, "softmax"),
            0.85, beside=both, speedup=1.3),
        Row(Workload("softmax_gradient", "elements.dl rows_gradient", "gradient",
                     {"x": x, "g": x}, "softmax", wrt=("x",)), 0.85, beside=both, speedup=1.3),
        Row(Workload("layer_norm_large", "norms.dl layer_norm", "forward", norms, "layer_norm"),
            0.85, beside=both, speedup=1.3),
        Row(Workload("layer_norm_large_gradients", "norms.dl layer_norm_gradients", "gradient",
                     {**norms, "g": x}, "layer_norm", wrt=("x", "scale", "shift")),
            0.85, beside=both, speedup=1.3),
        Row(bf16, rate=620, half=True),
        Row(gemm(4096), beside=("torch",), speedup=0.85),
        *_steps(),
    ]


def _steps() -> list[Row]:
    """Training steps at the batch of the CPU's table, and at 1024."""
    large: Mapping[str, tuple[int, dict[str, Drawn]]] = {
        "lenet5": (16, {"x": normal(1024, 1, 32, 32), "y": whole(10, 1024)}),
        "mlp": (8, {"x": normal(1024, 784), "y": whole(10, 1024)}),
        "lstm": (32, {"x": whole(96, 64, 1024), "y": whole(96, 64, 1024)}),
    }
    peers, rows = ("torch_compile", "torch_graph", "jax"), []
    for name, (factor, inputs) in large.items():
        small = replace(SEVEN[name], asked=None)
        products = tuple(Product(p.macs * factor, p.gradients) for p in small.products)
        rows.append(Row(small, beside=peers, speedup=3))
        rows.append(Row(replace(small, name=f"{name}_1024", inputs=inputs, products=products),
                        beside=peers, speedup=1))
    return rows


ROWS = {row.workload.name: row for row in _rows()}
