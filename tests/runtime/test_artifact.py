"""Artifacts as bytes, object code in memory, sizes, and what an import costs."""

from __future__ import annotations

import ctypes
import gc
import subprocess
import sys

import numpy as np
import pytest

from dlc.runtime import Artifact, ArtifactError, Function, jit
from dlc.runtime.dims import evaluate, format_dim, holds, solve, symbols_of
from tests.runtime import programs


def test_round_trip() -> None:
    artifact = programs.double()
    again = Artifact.from_bytes(artifact.to_bytes())
    assert again.manifest == artifact.manifest
    assert again.object_bytes == artifact.object_bytes
    x = np.arange(3, dtype=np.float32)
    np.testing.assert_array_equal(Function(again)(x), 2 * x)


def test_damaged_bytes() -> None:
    data = programs.nothing().to_bytes()
    with pytest.raises(ArtifactError, match="not an artifact"):
        Artifact.from_bytes(b"something else")
    for at in (20, 50, 60, len(data) - 1):
        broken = bytearray(data)
        broken[at] ^= 1
        with pytest.raises(ArtifactError, match="damaged"):
            Artifact.from_bytes(bytes(broken))
    with pytest.raises(ArtifactError, match="damaged"):
        Artifact.from_bytes(data[:-1])


def test_manifests_that_do_not_fit() -> None:
    good = programs.nothing()
    with pytest.raises(ArtifactError, match="made for ABI 1, this runtime has ABI 4"):
        Artifact({**good.manifest, "abi": 1}, good.object_bytes)
    for field in ("entry", "inputs", "offsets", "checks"):
        manifest = {key: value for key, value in good.manifest.items() if key != field}
        with pytest.raises(ArtifactError, match=field):
            Artifact(manifest, good.object_bytes)


def test_object_code_that_can_not_be_loaded() -> None:
    with pytest.raises(ArtifactError, match="can't be loaded"):
        jit.load(b"no object", ["f"])
    code = jit.compile_text("define i32 @f() { ret i32 1 }")
    with pytest.raises(ArtifactError, match="g"):
        jit.load(code, ["g"])


def test_code_may_import_and_lives_as_long_as_its_owner() -> None:
    code = jit.compile_text("""
declare i32 @theirs(i32)
define i32 @ours(i32 %x) {
  %y = call i32 @theirs(i32 %x)
  %z = add i32 %y, 1
  ret i32 %z
}""")
    kind = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_int32)
    theirs = kind(lambda x: 10 * x)
    address = ctypes.cast(theirs, ctypes.c_void_p).value
    assert address is not None
    loaded = [jit.load(code, ["ours"], {"theirs": address}) for _ in range(3)]
    places = {each.address("ours") for each in loaded}
    assert len(places) == 3
    del loaded[:2]
    gc.collect()
    assert kind(loaded[0].address("ours"))(4) == 41


def test_sizes() -> None:
    dim = ["//", ["-", ["+", "H", ["*", 2, 1]], "K"], 2]
    assert evaluate(dim, {"H": 28, "K": 5}) == 12
    assert evaluate(["max", ["%", 7, 4], ["min", 1, "N"]], {"N": 9}) == 3
    assert symbols_of(dim) == {"H", "K"}
    assert format_dim(dim) == "(((H + (2 * 1)) - K) // 2)"
    assert format_dim(["max", 1, "N"]) == "max(1, N)"
    assert [holds("N", relation, 3, {"N": 3}) for relation in (">=", "==", "<", "<=")] == [
        True, True, False, True,
    ]  # fmt: skip
    assert solve(["-", ["*", 3, "N"], 1], 11, {}) == ("N", 4)
    assert solve(["-", ["*", 3, "N"], 1], 12, {}) is None
    assert solve(["*", "N", "M"], 12, {"M": 4}) == ("N", 3)
    assert solve(["*", "N", "M"], 12, {}) is None
    assert solve(["%", 7, 2], 1, {}) is None


def test_imports_are_lazy() -> None:
    text = (
        "import sys, dlc.runtime, dlc.runtime.cache, dlc.runtime.pool\n"
        "print([name for name in ('numpy', 'llvmlite', 'safetensors') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    with pytest.raises(AttributeError, match="nonsense"):
        _ = __import__("dlc.runtime").runtime.nonsense
