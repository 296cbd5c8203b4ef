"""What the library's numbers are held against PyTorch's for: layers, functions, optimizers.

Each case is a model with parts, a call, and inputs. `references/make.py` has PyTorch's side of the
same name, and records it; `test_references.py` runs the call here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

FOLDER = Path(__file__).parent / "references"
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Case:
    """A call in a model: `parts` are its members, `params` those whose gradients are compared."""

    name: str
    call: str
    inputs: dict[str, tuple[str, Shape]]
    result: str
    parts: str = ""
    params: dict[str, tuple[str, Shape]] = field(default_factory=dict)
    kind: str = "fn"
    below: int = 0  # inputs that are integers are below this

    def differentiated(self) -> list[str]:
        """The inputs, then the params, by which the gradient is taken."""
        floats = [name for name, (kind, _) in self.inputs.items() if kind.startswith("f")]
        return [*floats, *self.params]

    def program(self) -> str:
        """The model `M`, with a function that runs the call and one that differentiates it."""
        types = {**{name: kind for name, (kind, _) in self.inputs.items()},
                 **{name: kind for name, (kind, _) in self.params.items()}}
        signature = ", ".join(f"{name}: {kind}" for name, (kind, _) in self.inputs.items())
        by = self.differentiated()
        results = ", ".join(types[name] for name in by)
        comma = "," if len(by) == 1 else ""
        taken = f"grad(loss, ({', '.join(by)}{comma}))" if len(by) > 1 else f"grad(loss, {by[0]})"
        results = f"({results})" if len(by) > 1 else results
        return f"""import nn
model M {{
    {self.parts}
    {self.kind} run({signature}) -> {self.result} = {self.call}
    {self.kind} slopes({signature}, seed: {self.result}) -> {results} {{
        loss = sum({self.call} * seed)
        return {taken}
    }}
}}
"""


PICTURE = {"x": ("f32[N, 4, H, W]", (2, 4, 6, 5))}
SEQUENCE = {"x": ("f32[T, N, 3]", (5, 2, 3))}
ROWS = {"x": ("f32[N, 6]", (4, 6))}
PAIR = {"x": ("f32[N, 6]", (4, 6)), "y": ("f32[N, 6]", (4, 6))}
WORDS = {"x": ("f32[N, T, 8]", (2, 5, 8)), "mask": ("bool[N, T]", (2, 5))}


def layer(
    name: str, maker: str, inputs: dict[str, tuple[str, Shape]], result: str,
    kind: str = "fn", below: int = 0, **shapes: Shape,
) -> Case:
    """A layer called on its inputs; `shapes` are those of its params (`__` stands for a dot)."""
    params = {f"layer.{name.replace('__', '.')}": (f"f32[{', '.join(map(str, shape))}]", shape)
              for name, shape in shapes.items()}
    return Case(name, f"layer({', '.join(inputs)})", inputs, result, f"layer = nn.{maker}", params,
                kind, below)


LAYERS = (
    layer("dense", "Dense(6, 3)", ROWS, "f32[N, 3]", w=(6, 3), b=(3,)),
    layer("conv1d", "Conv1d(4, 3, kernel=3, stride=2, padding=2, dilation=2)",
          {"x": ("f32[N, 4, L]", (2, 4, 9))}, "f32[N, 3, (L - 1) // 2 + 1]",
          w=(3, 4, 3), b=(3,)),
    layer("conv2d", "Conv2d(4, 3, kernel=3)", PICTURE, "f32[N, 3, H - 2, W - 2]",
          w=(3, 4, 3, 3), b=(3,)),
    layer("conv2d_groups", "Conv2d(4, 6, kernel=3, stride=2, padding=1, groups=2)", PICTURE,
          "f32[N, 6, (H - 1) // 2 + 1, (W - 1) // 2 + 1]", w=(6, 2, 3, 3), b=(6,)),
    layer("conv2d_dilation", "Conv2d(4, 2, kernel=2, padding=1, dilation=3)", PICTURE,
          "f32[N, 2, H - 1, W - 1]", w=(2, 4, 2, 2), b=(2,)),
    layer("depthwise", "DepthwiseConv2d(4, kernel=3, padding=1)", PICTURE, "f32[N, 4, H, W]",
          w=(4, 1, 3, 3), b=(4,)),
    layer("conv_transpose1d", "ConvTranspose1d(4, 3, kernel=4, stride=3, padding=1)",
          {"x": ("f32[N, 4, L]", (2, 4, 5))}, "f32[N, 3, 3 * L - 1]", w=(4, 3, 4), b=(3,)),
    layer("conv_transpose2d",
          "ConvTranspose2d(4, 3, kernel=3, stride=2, padding=1, output_padding=1)", PICTURE,
          "f32[N, 3, 2 * H, 2 * W]", w=(4, 3, 3, 3), b=(3,)),
    layer("max_pool2d", "MaxPool2d(2)", PICTURE, "f32[N, 4, H // 2, W // 2]"),
    layer("max_pool2d_overlap", "MaxPool2d(3, stride=2, padding=1)", PICTURE,
          "f32[N, 4, (H - 1) // 2 + 1, (W - 1) // 2 + 1]"),
    layer("avg_pool2d", "AvgPool2d(3, stride=2, padding=1)", PICTURE,
          "f32[N, 4, (H - 1) // 2 + 1, (W - 1) // 2 + 1]"),
    layer("global_max_pool2d", "GlobalMaxPool2d()", PICTURE, "f32[N, 4]"),
    layer("global_avg_pool2d", "GlobalAvgPool2d()", PICTURE, "f32[N, 4]"),
    layer("batch_norm", "BatchNorm(4)", PICTURE, "f32[N, 4, H, W]", scale=(4,), shift=(4,)),
    layer("batch_norm_train", "BatchNorm(4)", PICTURE, "f32[N, 4, H, W]", "step",
          scale=(4,), shift=(4,)),
    layer("batch_norm1d_train", "BatchNorm1d(6)", ROWS, "f32[N, 6]", "step",
          scale=(6,), shift=(6,)),
    layer("layer_norm", "LayerNorm(6)", ROWS, "f32[N, 6]", scale=(6,), shift=(6,)),
    layer("rms_norm", "RMSNorm(6)", ROWS, "f32[N, 6]", scale=(6,)),
    layer("group_norm", "GroupNorm(2, 4)", PICTURE, "f32[N, 4, H, W]", scale=(4,), shift=(4,)),
    layer("embedding", "Embedding(7, 3)", {"i": ("i32[N, T]", (2, 5))}, "f32[N, T, 3]", below=7,
          table=(7, 3)),
    layer("attention", "Attention(8, 2)", WORDS, "f32[N, T, 8]", qkv__w=(8, 24), qkv__b=(24,),
          output__w=(8, 8), output__b=(8,)),
    layer("attention_causal", "Attention(8, 2, causal=true)", WORDS, "f32[N, T, 8]",
          qkv__w=(8, 24), qkv__b=(24,), output__w=(8, 8), output__b=(8,)),
)

RECURRENT = (
    layer("rnn", "RNN(3, 4)", SEQUENCE, "f32[T, N, 4]", wx=(3, 4), wh=(4, 4), b=(4,)),
    layer("lstm", "LSTM(3, 4)", SEQUENCE, "f32[T, N, 4]", wx=(3, 16), wh=(4, 16), b=(16,)),
    layer("gru", "GRU(3, 4)", SEQUENCE, "f32[T, N, 4]", wx=(3, 12), wh=(4, 12), b=(12,),
          reset_b=(4,)),
)

ELEMENTWISE = ("relu", "leaky_relu", "elu", "selu", "silu", "gelu", "softsign", "softplus",
               "sigmoid", "log_sigmoid", "tanh", "softmax", "log_softmax")

FUNCTIONS = (
    *(Case(name, f"{name}(x)", ROWS, "f32[N, 6]") for name in ELEMENTWISE),
    Case("softmax_cross_entropy", "softmax_cross_entropy(x, i)",
         {**ROWS, "i": ("i32[N]", (4,))}, "f32", below=6),
    Case("binary_cross_entropy", "binary_cross_entropy(x, sigmoid(y))", PAIR, "f32[N, 6]"),
    Case("mean_squared_error", "mean_squared_error(x, y)", PAIR, "f32"),
    Case("mean_absolute_error", "mean_absolute_error(x, y)", PAIR, "f32"),
    Case("huber", "huber(x, y, delta=0.7)", PAIR, "f32[N, 6]"),
    Case("kl_divergence", "kl_divergence(log_softmax(x), log_softmax(y))", PAIR, "f32[N]"),
    Case("cosine_similarity", "cosine_similarity(x, y)", PAIR, "f32[N]"),
    Case("unit_rows", "unit_rows(x)", ROWS, "f32[N, 6]"),
    Case("hinge", "hinge(x, y)", PAIR, "f32[N, 6]"),
    Case("conv3d", "conv3d(x, y, stride=2, padding=1)",
         {"x": ("f32[N, 2, 4, 5, 3]", (2, 2, 4, 5, 3)),
          "y": ("f32[3, 2, 2, 2, 2]", (3, 2, 2, 2, 2))},
         "f32[N, 3, 3, 3, 2]"),
    Case("sort", "sort(x)", ROWS, "f32[N, 6]"),
    Case("top_k", "top_k(x, 3)[0]", ROWS, "f32[N, 3]"),
    Case("cumsum", "cumsum(x, axis=1)", ROWS, "f32[N, 6]"),
    Case("flip", "flip(x, axis=1)", ROWS, "f32[N, 6]"),
    Case("var", "var(x, axis=0)", ROWS, "f32[6]"),
    Case("min", "min(x, axis=1)", ROWS, "f32[N]"),
    Case("gather", "x[i, :3]", {**ROWS, "i": ("i32[K]", (7,))}, "f32[K, 3]", below=4),
    Case("gather_two", "x[i, i + 2]", {**ROWS, "i": ("i32[K]", (7,))}, "f32[K]", below=4),
    Case("set_at", "set_at(x, i, y)", {**ROWS, "i": ("i32[3]", (3,)), "y": ("f32[3, 6]", (3, 6))},
         "f32[N, 6]", below=4),
    Case("einsum", 'einsum("ab,cb,cd->ad", x, y, x)', PAIR, "f32[N, 6]"),
    Case("einsum_diagonal", 'einsum("ii->i", x.T @ x)', ROWS, "f32[6]"),
    Case("concat_split_stack_pad",
         "pad(concat((stack(split(x, 2, axis=1)), stack((y[:, :3], x[:, 1:4]))), axis=2), "
         "((0, 0), (1, 0), (0, 2)))", PAIR, "f32[2, N + 1, 8]"),
)

# Each is run for five steps on w[3, 4], with gradients that are recorded.
OPTIMIZERS = {
    "sgd": "sgd(lr=0.1)",
    "sgd_momentum": "sgd(lr=0.1, momentum=0.9)",
    "sgd_nesterov_decay": "sgd(lr=0.1, momentum=0.9, nesterov=true, decay=0.05)",
    "adagrad": "adagrad(lr=0.1)",
    "rmsprop": "rmsprop(lr=0.05)",
    "adam": "adam(lr=0.1)",
    "adamw": "adamw(lr=0.1, decay=0.02)",
}
STEPS = 5


def optimizer_program(optimizer: str, dtype: str = "f32") -> str:
    """A model whose loss has the gradient that its step is given."""
    return f"""
model M {{
    param w: {dtype}[3, 4] = zeros()
    step fit(g: {dtype}[3, 4]) -> {dtype} {{
        loss = sum(w * g)
        minimize loss with {optimizer}
        return loss
    }}
}}
"""
