"""The variables of a model, which stay on a GPU between calls."""

from __future__ import annotations

import numpy as np

from dlc.runtime.cuda.arrays import Found, GpuArray, find, is_on_gpu
from dlc.runtime.cuda.copies import upload
from dlc.runtime.cuda.device import Block, device
from dlc.runtime.foreign import NoArray
from dlc.runtime.memory import ALIGNMENT, DTYPES, Array
from dlc.runtime.variables import Variables, VariableSpec

__all__ = ["CudaVariables"]


class CudaVariables(Variables):
    """As `Variables`, with copies on the GPU.

    What a function writes is copied to the host only when somebody reads it; what is set on the
    host is copied to the GPU before the next call. Who changes either holds the lock and the GPU.
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self._block: Block | None = None
        self._places: dict[str, int] = {}
        self._is_here = True  # whether the host's copies are what was written last
        self._is_there = False  # whether the GPU's are

    def places(self) -> dict[str, int]:
        """The addresses on the GPU, where all values are now; for who holds it."""
        if not self._is_there:
            on = device()
            self._make_places()
            on.stream.synchronize()  # what runs still has the values of before
            for name, place in self._places.items():
                upload(on, self._storage[name], place)
            self._is_there = True
        return self._places

    def _make_places(self) -> None:
        if self._block is not None:
            return
        size, offsets = 0, {}
        for name in self:
            offsets[name] = size
            size += -(-self._storage[name].nbytes // ALIGNMENT) * ALIGNMENT
        self._block = Block(device(), size, "the variables of the model")
        self._places = {name: self._block.address + at for name, at in offsets.items()}

    def written(self) -> None:
        """The GPU's copies are newer from now on."""
        self._is_here = False

    def _bring(self, *names: str) -> None:
        """Copies variables to the host, if they are newer on the GPU."""
        if self._is_here:
            return
        with device() as on, on.told("reading a variable"):
            for name in names:
                on.fetch(self._storage[name], self._places[name])

    def _bring_all(self) -> None:
        self._bring(*self)
        self._is_here = True

    def _place(self, specs: list[VariableSpec]) -> None:
        self._bring_all()
        super()._place(specs)
        self._is_there, self._block = False, None

    def peek(self, name: str) -> Array:
        """As `get`, for who holds the lock."""
        self._bring(name)
        return super().peek(name)

    def storage(self, name: str) -> Array:
        """The host's copy, which is new."""
        self._bring(name)
        return super().storage(name)

    def array_of(self, value: object) -> Array:
        """As of `Variables`; what lies on the GPU is copied to the host."""
        if not is_on_gpu(value):
            return super().array_of(value)
        found = value if isinstance(value, GpuArray) else find(value, device())
        if isinstance(found, Found) and (found.strides is not None or found.name not in DTYPES):
            raise NoArray(f"is {found} with gaps or of a strange type; copy it to the host first")
        made = np.empty(found.shape, DTYPES[found.name])
        with device() as on, on.told("reading an array"):
            on.fetch(made, found.address)
        return made

    def _store(self, arrays: dict[str, Array]) -> None:
        self._bring_all()
        self._is_there = False
        super()._store(arrays)
