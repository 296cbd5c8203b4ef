"""The machine code of each function: at most 2 ulp off in f32, special values as they should be.

Denormals are kept. `python -m tests.ir.sweep_math` does the same for all floats.
"""

from __future__ import annotations

import numpy as np
import pytest

from dlc.compiler.llvm.target import target
from dlc.ir.types import F32, F64, DType
from tests.compiler.scalar_runner import Compiled
from tests.compiler.test_ops_compiled import runs
from tests.ir.reference import exact, ulps
from tests.ir.sweep_math import MANTISSA, SMALLEST, WIDE, errors, read_table, true_error

BOUNDS = {F32: 2.0, F64: 4.0}
WORST = read_table()


def _inputs(name: str, dtype: DType) -> list[np.ndarray]:
    """Numbers of all magnitudes, many between -100 and 100, and the special ones."""
    rng = np.random.default_rng(0)
    size = 8 * dtype.size
    bits = rng.integers(0, 1 << size, 20_000, dtype=np.uint64).astype(f"uint{size}")
    usual = rng.uniform(-1, 1, 20_000) * 10.0 ** rng.integers(-3, 3, 20_000)
    tiny, top = SMALLEST[dtype], float(np.finfo(dtype.numpy).max)
    special = np.array([0.0, tiny, tiny / 16, top, np.inf, np.nan, 1.0, 88.7, 89, 710, 745])
    with np.errstate(all="ignore"):
        usual, special = (each.astype(dtype.numpy) for each in (usual, special))
        x = np.concatenate([bits.view(dtype.numpy), usual, special, -special])
    if name != "pow":
        return [x]
    return [x, rng.permutation(np.where(rng.random(x.size) < 0.5, x, rng.uniform(-9, 9, x.size)))
            .astype(dtype.numpy)]


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize("name", WIDE)
def test_accuracy(name: str, dtype: DType) -> None:
    if dtype is F64 and np.finfo(np.longdouble).eps > 1e-18:
        pytest.skip("no wider type to compare with")
    xs = _inputs(name, dtype)
    with np.errstate(all="ignore"):
        right = WIDE[name](*(x.astype(np.float64 if dtype is F32 else np.longdouble) for x in xs))
    off = errors(Compiled(name, dtype)(*xs), right)
    assert off.max() <= BOUNDS[dtype]
    for place in np.argsort(off)[-8:]:
        assert true_error(name, dtype, tuple(float(x[place]) for x in xs)) <= BOUNDS[dtype]


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize("name", WORST)
def test_the_worst_inputs_that_are_known(name: str, dtype: DType) -> None:
    worst = WORST[name][dtype]
    assert worst.units <= BOUNDS[dtype]
    assert true_error(name, dtype, worst.at) == pytest.approx(worst.units, abs=1e-3)


@pytest.mark.parametrize("name", [n for n in WIDE if n != "pow"])
@pytest.mark.parametrize("lanes", [1, 8, 32])
def test_bits_do_not_depend_on_the_lanes(name: str, lanes: int) -> None:
    (x,) = _inputs(name, F32)
    expected, found = (Compiled(name, F32, lanes=count)(x) for count in (16, lanes))
    np.testing.assert_array_equal(found, expected)


# The angles that come nearest to a quarter turn, within 2**-31 and 2**-61.
NEAREST = {F32: 16367173.0 * 2.0**72, F64: 6381956970095103.0 * 2.0**797}


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize("name", ["sin", "cos"])
def test_angles_of_any_size(name: str, dtype: DType) -> None:
    """All exponents that are far, the nearest to a quarter turn, the largest; both signs."""
    limit = np.finfo(dtype.numpy)
    x = np.array([m * 2.0**e for e in range(20, limit.maxexp) for m in (1, 1.25, 1.999)]
                 + [NEAREST[dtype], limit.max], dtype.numpy)
    found, opposite = (Compiled(name, dtype)(angles) for angles in (x, -x))
    for value, angle in zip(found, x, strict=True):
        assert ulps(float(value), exact(name, float(angle)), MANTISSA[dtype], SMALLEST[dtype]) <= 2
    np.testing.assert_array_equal(opposite, -found if name == "sin" else found)


@pytest.mark.parametrize(("lanes", "cpu"), [(1, ""), (8, ""), (4, "haswell")])
@pytest.mark.parametrize("name", ["sin", "cos"])
def test_angles_beside_far_ones(name: str, lanes: int, cpu: str) -> None:
    """What is computed for far angles in the same vector changes no other result."""
    if not runs(cpu):
        pytest.skip("this machine has no AVX2")
    near = np.array([0.0, -0.0, 5e-324, -1e-310, 1.0, -3.0, 2.0**30, np.nan])
    far = np.array([2.0**31, -1e300, np.inf, -np.inf, 1e22, 1e30, 1e40, 1e50])
    code = Compiled(name, F64, lanes=lanes, target=target(cpu))
    alone = (code(x) for x in (near, far))
    both = code(np.stack([near, far], 1).ravel())
    np.testing.assert_array_equal(both, np.stack([*alone], 1).ravel())
    assert np.flatnonzero(np.isnan(both)).tolist() == [5, 7, 14]


def test_digits_of_the_reference() -> None:
    """Against values of tables."""
    known = {("exp", 1.0): "2.71828182845904523536028747135266249775724709369995957496697",
             ("log", 2.0): "0.693147180559945309417232121458176568075500134360255254120680",
             ("sin", 1.0): "0.841470984807896506652502321630298999622563060798371065672752",
             ("cos", 1e22): "0.523214785395138945497594473384709492",
             ("erf", 1.0): "0.842700792949714869341220635082609259296066997966302908459938",
             ("tanh", 0.5): "0.462117157260009758502318483643672548730289280330113038552732"}
    for (name, x), digits in known.items():
        assert str(exact(name, x)).startswith(digits[:-2])
