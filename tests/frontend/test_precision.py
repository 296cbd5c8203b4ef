"""The flags of the program: `--float f64`, and `--precision bf16` for what products read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dlc
from dlc.frontend.build import Build
from dlc.frontend.commands.cli import main
from dlc.frontend.driver import INITIALIZER, Model, load
from dlc.frontend.errors import UserError
from dlc.ir.diagnostics import UserError as ProgramError
from dlc.ir.scalar import Array, cast_array
from dlc.ir.types import DTYPES
from dlc.runtime import pool

EXAMPLES = Path(__file__).parents[2] / "examples"
RNG = np.random.default_rng(5)

NET = """
import nn

fn halve(x: float[*S]) -> float[*S] = 0.5 * x

model Net(hidden: int = 5) {
    first = nn.Dense(3, hidden)
    norm = nn.LayerNorm(hidden)
    cell = nn.LSTM(hidden, 4)
    last = nn.Dense(4, 1)

    fn out(x: float[N, 3]) -> float[N] {
        h = norm(tanh(first(halve(x))))
        return last(cell(h[None, :, :])[-1])[:, 0] + one_hot(0, 1)[0]
    }

    fn loss(x: float[N, 3], y: float[N]) -> float = mean_squared_error(out(x), y)

    fn slopes(x: float[N, 3], y: float[N]) -> (float[3, hidden], float[hidden]) =
        grad(loss(x, y), (first.w, norm.scale))

    step fit(x: float[N, 3], y: float[N], lr: float = 0.01) -> float {
        value = loss(x, y)
        minimize value with adam(lr=lr)
        return value
    }
}

test "numbers and makers" {
    x = full(1, value=16777217.0)[0]
    assert x - 16777216.0 == 1.0, "a maker keeps 25 bits"
    y = [16777217.0, 0.5]
    assert sum(y) - 16777216.0 == 1.5, "a list does"
    scan i in range(2) carry z = 16777216.0 { z = z + 0.5 }
    assert z - 16777216.0 == 1.0, "what is carried does"
    assert max(abs(uniform(100))) <= 1.0, "draws are numbers"
}
"""


def written(folder: Path, text: str, name: str = "program.dl") -> Path:
    path = folder / name
    path.write_text(text)
    return path


# --float


def test_layers_and_float_functions_train_in_f64(tmp_path: Path) -> None:
    net = load(written(tmp_path, NET), float="f64").Net()
    x, y = RNG.normal(size=(7, 3)), RNG.normal(size=7)
    assert net.first.w.dtype == net.cell.wh.dtype == np.float64
    for slope, layer, name in zip(net.slopes(x, y), (net.first, net.norm), ("w", "scale"),
                                  strict=True):
        held_against_differences(net, slope, layer, name, x, y)
    losses = [float(net.fit(x, y, lr=0.02)) for _ in range(60)]
    assert losses[-1] < 0.5 * losses[0]
    assert {v.dtype for v in net.variables.values()} == {np.dtype("f8")}


def held_against_differences(
    net: Model, slope: Array, layer: Any, name: str, x: Array, y: Array
) -> None:
    """A gradient of the loss along a random direction, against a central difference."""
    before = np.array(getattr(layer, name))
    way = RNG.normal(size=before.shape)
    sides = []
    for step in (1e-5, -1e-5):
        setattr(layer, name, before + step * way)
        sides.append(float(net.loss(x, y)))
    setattr(layer, name, before)
    assert (sides[0] - sides[1]) / 2e-5 == pytest.approx(float((slope * way).sum()), rel=1e-7)


def test_without_the_flag_all_is_f32(tmp_path: Path) -> None:
    net = load(written(tmp_path, NET)).Net()
    assert net.first.w.dtype == np.float32
    assert net.loss(np.ones((2, 3), np.float32), np.ones(2, np.float32)).dtype == np.float32


def test_adam_counts_and_weighs_in_f64(tmp_path: Path) -> None:
    text = """
import nn
model M {
    layer = nn.Dense(1, 1)
    step fit(x: float[1, 1]RATE) -> float {
        minimize sum(layer(x)) with adam(lr=GIVEN)
        return sum(layer(x))
    }
}
"""
    x = np.array([[3.7]])
    for rate, given in (("", "0.01"), (", lr: float = 0.01", "lr"), (", lr: f32 = 0.25", "lr")):
        path = written(tmp_path, text.replace("RATE", rate).replace("GIVEN", given))
        model = load(path, float="f64").M()
        w, lr = float(model.layer.w[0, 0]), 0.25 if "f32" in rate else 0.01
        m = v = 0.0
        for turn in range(1, 6):
            model.fit(x)
            m, v = 0.9 * m + 0.1 * 3.7, 0.999 * v + 0.001 * 3.7**2
            w -= lr * (m / (1 - 0.9**turn)) / (np.sqrt(v / (1 - 0.999**turn)) + 1e-8)
        assert float(model.layer.w[0, 0]) == pytest.approx(w, rel=1e-13)


def test_schedules_have_the_type_of_what_they_set(tmp_path: Path) -> None:
    text = """
model M {
    param w: f64[28] = ones()
    step fit(image: u8[N, 28, 28], lr: f64 = 0.1) -> f64 {
        loss = mean((f64(image) @ w) ** 2)
        minimize loss with sgd()
        return loss
    }
}
train M { data = "mnist", step = fit, batch = 8, epochs = 1, lr = 0.5 * cosine(progress) }
"""
    made = load(written(tmp_path, text)).M().function("train.lr")(progress=0.1, epoch=0)
    assert float(made) == pytest.approx(0.25 * (1 + np.cos(0.1 * np.pi)), rel=1e-14)


def test_check_says_f64(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(written(tmp_path, NET))
    assert main(["check", path, "--float", "f64"]) == 0
    said = capsys.readouterr().out
    assert "param first.w: f64[3, 5]" in said
    assert "f32" not in said
    assert main(["test", path, "--float", "f64"]) == 0
    assert main(["test", path]) == 1, "f32 has 24 bits"


def test_a_clash_says_where_f64_comes_from(tmp_path: Path) -> None:
    text = """
import nn
model M {
    layer = nn.Dense(3, 2)
    fn f(x: f32[N, 3]) -> f32[N, 2] = layer(x)
}
"""
    path = written(tmp_path, text)
    load(path)
    with pytest.raises(ProgramError) as caught:
        load(path, float="f64")
    (found,) = caught.value.diagnostics
    assert (found.code, found.span.line if found.span else 0) == ("dtype-mismatch", 5)
    assert "--float f64" in found.help
    with pytest.raises(ProgramError) as usual:
        load(written(tmp_path, "fn f(x: f32, y: f64) -> f32 = x + y\n", "other.dl"))
    assert "--float" not in usual.value.diagnostics[0].help


# --precision

PRODUCTS = """
import nn

model M {
    param w: f32[6, 5] = glorot_uniform()
    param k: f32[2, 1, 3] = glorot_uniform()

    fn product(x: f32[N, 6]) -> f32[N, 5] = x @ w

    fn elementwise(x: f32[N, 6]) -> (f32[N], f32[N, 6]) = (sum(x, axis=1), 3.0 * x / (1.0 + x * x))

    fn slopes(x: f32[N, 6], g: f32[N, 5]) -> (f32[6, 5], f32[N, 6]) = grad(sum(g * (x @ w)), (w, x))

    fn filtered(x: f32[N, 1, 9]) -> (f32[N, 2, 7], f32[2, 1, 3]) {
        y = conv1d(x, k)
        return y, grad(sum(y * y), k)
    }

    fn scanned(xs: f32[T, 6, 6], h0: f32[N, 6]) -> f32[N, 6] {
        scan x in xs carry h = h0 { h = tanh(h @ x) }
        return h
    }
}
"""


def rounded(x: Array, to: str) -> Array:
    """f32 with the digits of bf16 or f16, in f64, so that sums here are exact next to f32's."""
    return cast_array(cast_array(np.asarray(x, np.float32), DTYPES[to]), DTYPES["f64"])


@pytest.fixture(params=["bf16", "f16"])
def products(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Model]:
    to = str(request.param)
    return to, load(written(tmp_path, PRODUCTS), precision=to).M(seed=3)


def floats(*shape: int) -> Array:
    return RNG.normal(size=shape).astype(np.float32)


def near(found: Array, expected: Array) -> None:
    """Equal but for the order of sums in f32: a bf16 operand that is not rounded is 100 times
    further off."""
    assert found.dtype == np.float32
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=4e-7 * scale)


def test_products_and_their_gradients_read_rounded_numbers(products: tuple[str, Model]) -> None:
    to, model = products
    x, g = floats(70, 6), floats(70, 5)
    w = np.array(model.w)
    near(model.product(x), rounded(x, to) @ rounded(w, to))
    assert np.abs(model.product(x) - x @ w).max() > 1e-5
    for_w, for_x = model.slopes(x, g)
    near(for_w, rounded(x, to).T @ rounded(g, to))
    near(for_x, rounded(g, to) @ rounded(w, to).T)


def test_convolutions_read_rounded_numbers(products: tuple[str, Model]) -> None:
    to, model = products
    x = floats(4, 1, 9)
    y, slope = model.filtered(x)
    windows = np.lib.stride_tricks.sliding_window_view(rounded(x, to)[:, 0], 3, axis=1)
    expected = np.einsum("nur,or->nou", windows, rounded(np.array(model.k), to)[:, 0])
    near(y, expected)
    near(slope[:, 0], np.einsum("nou,nur->or", rounded(2 * y, to), windows))


def test_products_in_loops_do_too(products: tuple[str, Model]) -> None:
    to, model = products
    xs, h = floats(3, 6, 6), floats(4, 6)
    found, expected = model.scanned(xs, h), h
    for x in xs:
        expected = np.tanh(rounded(expected, to) @ rounded(x, to)).astype(np.float32)
    # A carried number at a tie may be rounded the other way.
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-3 if to == "bf16" else 3e-4)


def test_sums_and_elements_stay_as_they_are(products: tuple[str, Model], tmp_path: Path) -> None:
    _, model = products
    plain = load(tmp_path / "program.dl").M(seed=3)
    x = floats(5, 6)
    for a, b in zip(model.elementwise(x), plain.elementwise(x), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(model.w, plain.w)


def test_weights_stay_f32_and_learn(tmp_path: Path) -> None:
    """A step far below the last digit of bf16 changes a weight."""
    text = """
model M {
    param w: f32[1, 1] = ones()
    step fit(x: f32[1, 1]) -> f32 {
        loss = sum(x @ w)
        minimize loss with sgd(lr=0.0001)
        return loss
    }
}
"""
    model = load(written(tmp_path, text), precision="bf16").M()
    for _ in range(3):
        model.fit(np.ones((1, 1), np.float32))
    assert float(model.w[0, 0]) == pytest.approx(1 - 3e-4, rel=1e-6)


def test_orthogonal_matrices_are_made_in_full(tmp_path: Path) -> None:
    text = "model M { param w: f32[8, 8] = orthogonal()\n fn f() -> f32 = sum(w) }\n"
    w = np.array(load(written(tmp_path, text), precision="bf16").M().w)
    np.testing.assert_allclose(w @ w.T, np.eye(8), atol=1e-5)


def test_lenet_learns_with_bf16() -> None:
    """On pictures with a bright square that says the class, beside f32, and to the same bits with
    any number of threads."""
    label = (np.arange(64) % 10).astype(np.uint8)
    image = RNG.integers(0, 40, (64, 28, 28)).astype(np.uint8)
    for n, k in enumerate(label):
        image[n, 5 * (k // 5) + 6:5 * (k // 5) + 11, 5 * (k % 5) + 2:5 * (k % 5) + 7] = 250
    path = EXAMPLES / "lenet5.dl"
    runs: dict[tuple[str, int], list[float]] = {}
    for precision, threads in (("f32", 2), ("bf16", 2), ("bf16", 1)):
        pool.set_threads(threads)
        model = load(path, precision=precision).LeNet5(seed=1)
        runs[precision, threads] = [float(model.fit(image=image, label=label)) for _ in range(40)]
    pool.set_threads(2)
    assert runs["bf16", 1] == runs["bf16", 2]
    assert runs["bf16", 2] != runs["f32", 2]
    assert runs["bf16", 2][0] == pytest.approx(runs["f32", 2][0], rel=1e-2)
    assert runs["bf16", 2][-1] < 0.3 * runs["bf16", 2][0]


# Both


def test_what_is_kept_is_not_taken_for_another(tmp_path: Path) -> None:
    path = written(tmp_path, PRODUCTS)
    builds = [Build(path), Build(path, floats="f64"), Build(path, precision="bf16"),
              Build(path, precision="f16")]
    assert len({b.key for b in builds}) == 2, "the type of floats alone makes another program"
    models = [b.model("M", {}) for b in builds if b.floats == "f32"]
    assert len({m.code_key("product") for m in models}) == 3
    assert len({m.code_key(INITIALIZER) for m in models}) == 1
    x = floats(5, 6)
    both = [load(path, precision=p).M(seed=3).product(x) for p in ("f32", "bf16", "f32", "bf16")]
    np.testing.assert_array_equal(both[0], both[2])
    np.testing.assert_array_equal(both[1], both[3])
    assert not np.array_equal(both[0], both[1])


def test_other_settings_are_errors(tmp_path: Path) -> None:
    path = written(tmp_path, PRODUCTS)
    with pytest.raises(UserError, match="float is one of f32, f64, not 'f16'"):
        dlc.load(path, float="f16")
    with pytest.raises(UserError, match="precision is one of f32, bf16, f16, tf32, not 'f64'"):
        dlc.load(path, precision="f64")


def test_tf32_is_of_a_gpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, "fn f(x: f32[128, 256], y: f32[256, 512]) -> f32[128, 512] = x @ y\n")
    with pytest.raises(UserError, match="precision tf32 is of a GPU"):
        dlc.load(path, precision="tf32")
    assert main(["dump", str(path), "--stage", "kernels", "--precision", "tf32"]) == 1
    assert "precision tf32 is of a GPU" in capsys.readouterr().err
    for precision, there in (("f32", False), ("tf32", True)):
        assert main(["dump", str(path), "--stage", "cuda", "--precision", precision]) == 0
        assert ("= multiply_tf32(" in capsys.readouterr().out) == there


def test_run_and_dump_take_the_flags(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(written(tmp_path, PRODUCTS))
    x = floats(2, 6)
    np.save(tmp_path / "x.npy", x)
    told = {}
    for precision in ("f32", "bf16"):
        flags = ["--precision", precision]
        given = ["M.product", "--input", f"x={tmp_path / 'x.npy'}", "--json", *flags]
        assert main(["run", path, *given]) == 0
        told[precision] = json.loads(capsys.readouterr().out)["results"][0]
        assert main(["dump", path, "--function", "product", "--after", "lower_precision",
                     *flags]) == 0
        assert ("to = bf16" in capsys.readouterr().out) == (precision == "bf16")
    assert told["f32"] != told["bf16"]
    np.testing.assert_allclose(told["f32"], told["bf16"], atol=0.1)
    assert main(["dump", str(written(tmp_path, NET, "net.dl")), "--function", "loss", "--float",
                 "f64"]) == 0
    assert "f32" not in capsys.readouterr().out
