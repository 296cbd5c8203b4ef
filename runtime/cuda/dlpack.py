"""DLPack: memory on a device that one package shows to another, in a capsule of Python's.

A capsule is taken once; who took it says when it is done with the memory.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from math import prod
from typing import Any

__all__ = ["CUDA", "CUDA_MANAGED", "Tensor", "give", "take"]

CUDA, CUDA_MANAGED = 2, 13  # kinds of devices
VERSION = 1, 0
_CODES = {"i": 0, "u": 1, "f": 2, "bf": 4, "c": 5, "bool": 6}
_LETTERS = {code: letters for letters, code in _CODES.items()}


class _Array(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("kind", ctypes.c_int32), ("number", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)), ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("offset", ctypes.c_uint64),
    )  # fmt: skip


_DELETER = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class _Plain(ctypes.Structure):
    _fields_ = (("array", _Array), ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p))


class _Versioned(ctypes.Structure):
    _fields_ = (
        ("major", ctypes.c_uint32), ("minor", ctypes.c_uint32),
        ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64), ("array", _Array),
    )  # fmt: skip


_KINDS: dict[bytes, type[Any]] = {b"dltensor": _Plain, b"dltensor_versioned": _Versioned}
_DESTRUCTOR = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)
_api = ctypes.pythonapi


def _entry(name: str, result: Any, *arguments: Any) -> Any:
    return ctypes.PYFUNCTYPE(result, *arguments)((name, _api))


_new = _entry("PyCapsule_New", ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, _DESTRUCTOR)
_is_named = _entry("PyCapsule_IsValid", ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)
_content = _entry("PyCapsule_GetPointer", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)
_rename = _entry("PyCapsule_SetName", ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)
_USED = {name: b"used_" + name for name in _KINDS}  # kept: a capsule holds the address of its name


@dataclass(frozen=True, slots=True)
class Tensor:
    """Memory of others: its type as in `f32`, `bf16` or `c64`; strides count elements; while
    anything holds `keeper`, it stays as it is."""

    address: int
    number: int  # of the device
    name: str
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None
    keeper: object


class _Held:
    """Tells the owner when nobody holds it any more."""

    def __init__(self, managed: Any) -> None:
        self._managed = managed

    def __del__(self) -> None:
        if self._managed.deleter:
            _DELETER(self._managed.deleter)(ctypes.addressof(self._managed))


def take(capsule: object) -> Tensor:
    """What is in a capsule; ValueError for what is none, or was taken before."""
    at = id(capsule)
    name = next((n for n in _KINDS if _is_named(at, n)), None)
    if name is None:
        raise ValueError("this is no DLPack capsule, or it was used before")
    managed = _KINDS[name].from_address(_content(at, name))
    if name == b"dltensor_versioned" and managed.major != VERSION[0]:
        raise ValueError(f"this is version {managed.major} of DLPack")
    _rename(at, _USED[name])
    array, keeper = managed.array, _Held(managed)
    shape = tuple(array.shape[: array.ndim])
    strides = tuple(array.strides[: array.ndim]) if array.strides else None
    letters = _LETTERS.get(array.code, f"type {array.code} of ")
    bits = "" if letters == "bool" else array.bits * array.lanes
    return Tensor((array.data or 0) + array.offset, array.number, f"{letters}{bits}", shape,
                  strides, keeper)


_given: dict[int, object] = {}  # what others hold, by the address of what they were told


def _forget(address: int) -> None:
    _given.pop(address, None)


def _end(capsule: int) -> None:
    """A capsule ends: nobody took it, if it has its name still."""
    for name in _KINDS:
        if _is_named(capsule, name):
            _forget(_content(capsule, name))


_let_go, _unused = _DELETER(_forget), _DESTRUCTOR(_end)


def give(tensor: Tensor, versioned: bool, kind: int = CUDA) -> Any:
    """A capsule of C-contiguous memory on a device of some kind."""
    count = len(tensor.shape)
    letters = tensor.name.rstrip("0123456789")
    shape = (ctypes.c_int64 * max(count, 1))(*tensor.shape)
    steps = [prod(tensor.shape[at + 1:]) for at in range(count)]
    strides = (ctypes.c_int64 * max(count, 1))(*steps)
    name = b"dltensor_versioned" if versioned else b"dltensor"
    managed = _KINDS[name]()
    if versioned:
        managed.major, managed.minor = VERSION
    managed.deleter = ctypes.cast(_let_go, ctypes.c_void_p).value
    managed.array = _Array(
        tensor.address, kind, tensor.number, count, _CODES[letters],
        int(tensor.name[len(letters):] or 8), 1, shape, strides, 0)
    address = ctypes.addressof(managed)
    _given[address] = managed, shape, strides, tensor.keeper
    return _new(address, name, _unused)
