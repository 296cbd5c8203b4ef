"""Variables: values at the door, places in memory, locks."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest

from dlc.runtime import ArgumentError, Variables
from dlc.runtime.locks import ModelLock
from dlc.runtime.memory import address_of
from dlc.runtime.variables import VariableSpec


def model() -> Variables:
    """c.w: f32[20, 3] in blocks of 16, c.b: f32[20], t: i64."""
    variables = Variables(seed=5)
    variables.require(
        [
            VariableSpec.make("c.w", "f32", [20, 3], [[0, 16], [1, 1], [0, 1]]),
            VariableSpec.make("c.b", "f32", [20]),
            VariableSpec.make("t", "i64", []),
        ]
    )
    return variables


def test_values_pass_in_logical_order() -> None:
    variables = model()
    assert list(variables) == ["c.w", "c.b", "t"]
    assert (len(variables), "t" in variables, "x" in variables) == (3, True, False)
    value = np.arange(60, dtype=np.float32).reshape(20, 3)
    variables.set("c.w", value)
    found = variables.get("c.w")
    np.testing.assert_array_equal(found, value)
    found[...] = 0
    np.testing.assert_array_equal(variables.get("c.w"), value)
    assert variables.storage("c.w").shape == (2, 3, 16)
    assert variables.storage("c.w")[1, 2, 3] == value[19, 2]
    variables.set("t", np.array(7))
    assert variables.get("t") == 7
    assert not variables.get("c.b").any()


def test_storage_is_aligned_and_known() -> None:
    variables = model()
    for name in variables:
        storage = variables.storage(name)
        assert address_of(storage) % 64 == 0
        assert variables.overlaps(address_of(storage), 1)
        assert variables.overlaps(address_of(storage) - 8, 9)
    other = np.zeros(100)
    assert not variables.overlaps(address_of(other), other.nbytes)


def test_another_layout_keeps_the_value_and_frees_the_old_place() -> None:
    variables = model()
    value = np.arange(60, dtype=np.float32).reshape(20, 3)
    variables.set("c.w", value)
    before = variables.version
    for _ in range(5):
        for digits in (None, [[1, 1], [0, 1]]):
            variables.require([VariableSpec.make("c.w", "f32", [20, 3], digits)])
            np.testing.assert_array_equal(variables.get("c.w"), value)
    assert variables.version == before + 10
    assert len(variables._ranges) == 2
    variables.require([VariableSpec.make("c.w", "f32", [20, 3], [[1, 1], [0, 1]])])
    assert variables.version == before + 10


def test_wrong_values_are_refused_and_nothing_changes() -> None:
    variables = model()
    for wrong in (np.zeros((20, 3)), np.zeros((3, 20), np.float32), np.float32(1)):
        with pytest.raises(ArgumentError, match=r"variable `c.w` is f32\[20, 3\], but the value"):
            variables.set("c.w", wrong)
    with pytest.raises(ArgumentError):
        variables.set_all({"c.b": np.ones(20, np.float32), "t": np.zeros(2)})
    assert not variables.get("c.b").any()
    with pytest.raises(KeyError):
        variables.set("nothing", np.zeros(1))


def test_readers_share_and_writers_do_not() -> None:
    lock = ModelLock()
    order: list[str] = []
    both = threading.Barrier(3)

    def read() -> None:
        with lock.reading:
            both.wait(10)  # passes only if two readers and this test are here at once
            order.append("read")

    def write() -> None:
        with lock:
            order.append("write")

    readers = [threading.Thread(target=read) for _ in "ab"]
    lock.reading.__enter__()
    writer = threading.Thread(target=write)
    writer.start()
    for reader in readers:
        reader.start()
    both.wait(10)
    for reader in readers:
        reader.join()
    assert order == ["read", "read"]
    lock.reading.__exit__(None, None, None)
    writer.join(10)
    assert order == ["read", "read", "write"]


def test_a_fork_waits_for_the_step_and_the_child_is_free() -> None:
    variables = model()
    entered, leave = threading.Event(), threading.Event()

    def step() -> None:
        with variables.lock:
            entered.set()
            leave.wait(0.2)
            variables.storage("t")[()] = 1  # the end of the step

    thread = threading.Thread(target=step)
    thread.start()
    entered.wait()
    child = os.fork()
    if child == 0:
        with variables.lock:
            os._exit(0 if variables.storage("t") == 1 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    thread.join()
    with variables.lock:
        pass
