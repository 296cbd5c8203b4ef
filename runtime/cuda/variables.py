"""The variables of a model, which stay on a GPU between calls."""

from __future__ import annotations

from dlc.runtime.cuda.device import Block, device
from dlc.runtime.memory import ALIGNMENT, Array
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
            cuda = device().cuda
            self._make_places()
            for name, place in self._places.items():
                if self._storage[name].nbytes:
                    cuda.memcpy_htod(place, self._storage[name])
            device().finish_copies()
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
        with device() as on:
            try:
                for name in names:
                    if self._storage[name].nbytes:
                        on.cuda.memcpy_dtoh(self._storage[name], self._places[name])
            except on.cuda.Error as error:
                raise on.fault("reading a variable", error) from error

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

    def _store(self, arrays: dict[str, Array]) -> None:
        self._bring_all()
        self._is_there = False
        super()._store(arrays)
