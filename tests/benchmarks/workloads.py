"""The table of workloads: seven that are held to figures, and a broader set of others."""

from __future__ import annotations

from itertools import pairwise

from tests.benchmarks.shapes import (
    Drawn,
    Product,
    Workload,
    conv,
    dense,
    norm,
    normal,
    taps,
    trained,
    whole,
)

LENET5 = {**conv("c1", 6, 1, 5), **conv("c3", 16, 6, 5), **conv("c5", 120, 16, 5),
          **dense("f6", 120, 84), **dense("output", 84, 10)}
LENET5_MACS = (28 * 28 * 6 * 25, 10 * 10 * 16 * 150, 120 * 400, 120 * 84, 84 * 10)
LENET5_DL_MACS = (taps(28, 5, 1, 2) ** 2 * 6, 10 * 10 * 60 * 25, *LENET5_MACS[2:])
SMALL_CNN = {**conv("a", 32, 3, 3), **conv("b", 32, 32, 3), **conv("c", 64, 32, 3),
             **conv("d", 64, 64, 3), **dense("output", 64, 10)}
SEPARABLE_CNN = {**conv("a", 32, 3, 3), **conv("b", 32, 1, 3), **conv("c", 64, 32, 1),
                 **conv("d", 64, 1, 3), **conv("e", 128, 64, 1), **dense("output", 128, 10)}
AUTOENCODER = {**dense("a", 784, 256), **dense("b", 256, 64), **dense("c", 64, 256),
               **dense("d", 256, 784)}
LETTERS = {"table": normal(96, 128, deviation=0.1)}
LSTM = {**LETTERS, "wx": normal(128, 512, deviation=0.1), "wh": normal(128, 512, deviation=0.1),
        "b": normal(512, deviation=0.1), **dense("head", 128, 96)}
GRU = {**LETTERS, "gru.wx": normal(128, 384, deviation=0.1),
       "gru.wh": normal(128, 384, deviation=0.1), "gru.b": normal(384, deviation=0.1),
       "gru.reset_b": normal(128, deviation=0.1), **dense("head", 128, 96)}
WORDS = {"words.table": normal(20000, 128), **dense("output", 128, 10)}
ATTENTION = {**dense("attention.qkv", 256, 768), **dense("attention.output", 256, 256)}
BLOCK = {**norm("first", 256), **ATTENTION, **norm("second", 256), **dense("wide", 256, 1024),
         **dense("narrow", 1024, 256)}

MIXER = {**norm("first", 128), **dense("wide", 64, 128), **dense("narrow", 128, 64),
         **norm("second", 128), **dense("up", 128, 512), **dense("down", 512, 128)}


def gemm(size: int, asked: float | None = None) -> Workload:
    """A square product."""
    return _product(f"gemm{size}", size, size, size, asked)


def _product(name: str, m: int, k: int, n: int, asked: float | None = None) -> Workload:
    inputs = {"x": normal(m, k), "y": normal(k, n)}
    return Workload(name, "products.dl product", "forward", inputs, "product",
                    products=(Product(m * k * n),), asked=asked)


def _classifier(name: str, batch: int, sizes: tuple[int, ...], asked: float | None = None,
                step: bool = True) -> Workload:
    building = dict(zip(("inputs", "first", "second", "classes"), sizes, strict=True))
    weights = {**dense("a", *sizes[:2]), **dense("b", *sizes[1:3]), **dense("c", *sizes[2:])}
    macs = [batch * a * b for a, b in pairwise(sizes)]
    inputs = {"x": normal(batch, sizes[0])}
    if not step:
        return Workload(name, "dense.dl Classifier.scores", "forward", inputs, "mlp_scores",
                        weights, tuple(map(Product, macs)), building)
    inputs["y"] = whole(sizes[-1], batch)
    return Workload(name, "dense.dl Classifier.fit", "step", inputs, "mlp", weights,
                    trained(*macs), building, asked=asked)


def _step(name: str, program: str, inputs: dict[str, Drawn], weights: dict[str, Drawn],
          macs: tuple[int, ...], asked: float | None = None, of_data: bool = True) -> Workload:
    return Workload(name, f"{program}.fit", "step", inputs, name, weights,
                    trained(*macs, of_data=of_data), asked=asked)


def _over(name: str, program: str, *shape: int) -> Workload:
    return Workload(name, program, "forward", {"x": normal(*shape)}, name)


def _times(count: int, macs: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(count * x for x in macs)


def _seven() -> list[Workload]:
    picture, rows = {"x": normal(64, 1, 32, 32), "y": whole(10, 64)}, normal(4096, 1024)
    letters = {"x": whole(96, 64, 32), "y": whole(96, 64, 32)}
    lstm_macs = _times(64 * 32, (128 * 512, 128 * 512, 128 * 96))
    return [
        _step("lenet5", "../../../examples/plain_lenet5.dl PlainLeNet5", picture, LENET5,
              _times(64, LENET5_MACS), asked=1 / 3),
        _classifier("mlp", 128, (784, 512, 512, 10), asked=1 / 1.6),
        _step("lstm", "recurrent.dl LetterLSTM", letters, LSTM, lstm_macs, asked=1 / 1.6,
              of_data=False),
        gemm(512, asked=1 / 1.08),
        gemm(1024, asked=1 / 1.08),
        Workload("elementwise", "elements.dl elementwise", "forward",
                 {"x": rows, "y": normal(1024)}, "elementwise", asked=1 / 2),
        Workload("softmax", "elements.dl rows", "forward", {"x": rows}, "softmax", asked=1 / 0.97),
    ]


def _convolutions() -> list[Workload]:
    inner, outer = taps(16, 3, 1, 1) ** 2, taps(32, 3, 1, 1) ** 2
    small = (outer * 32 * 3, outer * 32 * 32, inner * 64 * 32, inner * 64 * 64, 640)
    separable = (taps(64, 3, 2, 1) ** 2 * 32 * 3, outer * 32, 32 * 32 * 64 * 32,
                 taps(32, 3, 2, 1) ** 2 * 64, 16 * 16 * 128 * 64, 1280)
    x, w = normal(32, 32, 28, 28), normal(32, 32, 3, 3, deviation=0.06)
    alone = {"x": x, "w": w}
    macs = (Product(32 * taps(28, 3, 1, 1) ** 2 * 32 * 32),)
    deep = {"x": normal(32, 64, 56, 56), "w": normal(64, 1, 3, 3)}
    name = "convolutions.dl "
    return [
        _step("cnn", name + "SmallCNN", {"x": normal(32, 3, 32, 32), "y": whole(10, 32)},
              SMALL_CNN, _times(32, small)),
        _step("separable_cnn", name + "SeparableCNN",
              {"x": normal(32, 3, 64, 64), "y": whole(10, 32)}, SEPARABLE_CNN,
              _times(32, separable)),
        Workload("cnn_4", name + "SmallCNN.fit", "step",
                 {"x": normal(4, 3, 32, 32), "y": whole(10, 4)}, "cnn", SMALL_CNN,
                 trained(*_times(4, small))),
        Workload("conv", name + "convolution", "forward", alone, "conv", products=macs),
        Workload("conv_dx", name + "input_gradient", "gradient", {**alone, "g": x}, "conv",
                 products=macs, wrt=("x",)),
        Workload("conv_dw", name + "weight_gradient", "gradient", {**alone, "g": x}, "conv",
                 products=macs, wrt=("w",)),
        Workload("depthwise", name + "depthwise", "forward", deep, "depthwise",
                 products=(Product(32 * 64 * taps(56, 3, 1, 1) ** 2),)),
        Workload("dilated", name + "dilated", "forward",
                 {"x": normal(16, 64, 512), "w": normal(64, 64, 3, deviation=0.07)}, "dilated",
                 products=(Product(16 * 64 * 64 * (512 + 2 * 508)),)),
    ]


def _attention() -> list[Workload]:
    heads, long = normal(8, 8, 128, 32), normal(4, 12, 512, 64)
    core = 8 * 128 * 128 * 256
    rows = 8 * 128
    layer = (rows * 256 * 768, core, core, rows * 256 * 256)
    sequence = {"x": normal(8, 128, 256), "y": normal(8, 128, 256)}
    block = (*layer, rows * 256 * 1024, rows * 256 * 1024)
    mixed = {"x": normal(8, 64, 128), "y": normal(8, 64, 128)}
    mixer = _times(8 * 64 * 128, (128, 128, 512, 512))
    return [
        Workload("attention", "attention.dl attend", "forward",
                 {"q": heads, "k": heads, "v": heads}, "attention",
                 products=(Product(core), Product(core))),
        Workload("attention_long", "attention.dl attend_heads", "forward",
                 {"q": long, "k": long, "v": long}, "attention",
                 products=(Product(4 * 12 * 512 * 512 * 64),) * 2),
        _step("attention_layer", "attention.dl Layer", sequence, ATTENTION, layer),
        _step("transformer_block", "attention.dl Block", sequence, BLOCK, block,
              of_data=False),
        _step("mixer", "attention.dl Mixer", mixed, MIXER, mixer, of_data=False),
    ]


def _networks() -> list[Workload]:
    units = (100 * 784 * 256, 100 * 256 * 64, 100 * 64 * 256, 100 * 256 * 784)
    letters = {"x": whole(96, 64, 32), "y": whole(96, 64, 32)}
    gru_macs = _times(64 * 32, (128 * 384, 128 * 384, 128 * 96))
    digits = {"image": whole(256, 64, 28, 28, dtype="uint8"), "label": whole(10, 64, dtype="uint8")}
    lenet5 = "../../../examples/plain_lenet5.dl PlainLeNet5.scores"
    return [
        Workload("lenet5.dl", "../../../examples/lenet5.dl LeNet5.fit", "step", digits, "lenet5.dl",
                 products=trained(*_times(64, LENET5_DL_MACS))),
        _step("autoencoder", "dense.dl Autoencoder", {"x": normal(100, 784, deviation=0.3)},
              AUTOENCODER, units),
        _classifier("mlp_odd", 13, (67, 101, 37, 11)),
        _classifier("mlp_1", 1, (784, 512, 512, 10), step=False),
        Workload("lenet5_1", lenet5, "forward", {"x": normal(1, 1, 32, 32)}, "lenet5_scores",
                 LENET5, tuple(map(Product, LENET5_MACS))),
        _step("words", "dense.dl WordClassifier", {"x": whole(20000, 64, 100), "y": whole(10, 64)},
              WORDS, (64 * 1280,), of_data=False),
        _step("gru", "recurrent.dl LetterGRU", letters, GRU, gru_macs, of_data=False),
    ]


def _products() -> list[Workload]:
    transposed = {"x": normal(4096, 256), "y": normal(4096, 256)}
    batched = {"x": normal(64, 96, 96), "y": normal(64, 96, 96)}
    vector = {"x": normal(2048, 2048), "y": normal(2048)}
    return [
        gemm(256),
        _product("gemm_odd", 509, 677, 331),
        _product("tall", 65536, 64, 64),
        _product("narrow", 1024, 1024, 64),
        _product("outer", 1024, 16, 1024),
        _product("row_times_matrix", 1, 2048, 2048),
        Workload("matrix_times_vector", "products.dl times_vector", "forward", vector, "product",
                 products=(Product(2048 * 2048),)),
        Workload("transposed", "products.dl product_of_transposed", "forward", transposed,
                 "transposed", products=(Product(4096 * 256 * 256),)),
        Workload("batched", "products.dl batched", "forward", batched, "product",
                 products=(Product(64 * 96**3),)),
    ]


def _rows() -> list[Workload]:
    scale = {"scale": normal(512), "shift": normal(512)}
    layer = {"x": normal(4096, 512), **scale}
    batch = {"x": normal(32, 64, 28, 28), "scale": normal(64), "shift": normal(64)}
    names = ("x", "scale", "shift")
    return [
        _over("sum_first", "reductions.dl sum_first", 4096, 1024),
        _over("max_first", "reductions.dl max_first", 4096, 1024),
        _over("var_first", "reductions.dl var_first", 4096, 1024),
        _over("mean_middle", "reductions.dl mean_middle", 64, 256, 256),
        _over("sum_all", "reductions.dl sum_all", 4096, 1024),
        _over("softmax_first", "reductions.dl softmax_first", 4096, 1024),
        Workload("layer_norm", "norms.dl layer_norm", "forward", layer, "layer_norm"),
        Workload("layer_norm_gradients", "norms.dl layer_norm_gradients", "gradient",
                 {**layer, "g": layer["x"]}, "layer_norm", wrt=names),
        Workload("batch_norm", "norms.dl batch_norm", "forward", batch, "batch_norm"),
        Workload("batch_norm_gradients", "norms.dl batch_norm_gradients", "gradient",
                 {**batch, "g": batch["x"]}, "batch_norm", wrt=names),
    ]


SEVEN = {x.name: x for x in _seven()}
BROADER = {x.name: x for x in [*_networks(), *_convolutions(), *_attention(), *_products(),
                               *_rows()]}
WORKLOADS = SEVEN | BROADER


def find(name: str) -> Workload | None:
    """The workload of that name; `gemm` with any size after it is a square product."""
    size = name.removeprefix("gemm")
    if name not in WORKLOADS and size != name and size.isdigit() and int(size):
        return gemm(int(size))
    return WORKLOADS.get(name)
