"""Calling compiled code: arguments in, results out, about a µs a call.

What a call needs is made once per set of argument shapes (`Binding`) and once per call that runs
at the same time as another (`Frame`: the block that compiled code is given one pointer to); a call
then fills in the addresses that differ.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from dlc.runtime import jit
from dlc.runtime.arguments import Accept, Arguments, scalar_check
from dlc.runtime.artifact import Artifact, Manifest
from dlc.runtime.errors import CheckFailed
from dlc.runtime.foreign import array_of
from dlc.runtime.frames import Binding, Entries, Frame
from dlc.runtime.memory import Recycler, address_of, arenas
from dlc.runtime.variables import Variables

if TYPE_CHECKING:
    from dlc.runtime.steps import Feed

__all__ = ["Function"]

KEPT_BINDINGS = 256


class Function:
    """A compiled function over `variables`, called with NumPy arrays and numbers.

    Arguments are positional or named. One result comes alone, several as a tuple, none as None;
    scalars come as NumPy scalars. Raises `ArgumentError` before anything runs and `CheckFailed`
    when a check of the program fails; no variable has changed in either case. Any number of threads
    may call: functions that write variables (or draw random numbers) run one at a time for each set
    of variables, all others at once. Code that takes times writes them into the block at `times`.
    `few` gives other code for a batch of so many, as the manifest says; it is asked once for each,
    when such a one comes.
    """

    def __init__(
        self, artifact: Artifact, variables: Variables | None = None, times: int | None = None,
        few: Callable[[int], Artifact] | None = None,
    ) -> None:
        self.artifact = artifact
        self._few = few
        self._for_few: dict[int, Function] = {}  # by the size of a batch that it was made for
        self._making = threading.Lock()
        self._times = times
        self.manifest: Manifest = artifact.read
        self.variables = Variables() if variables is None else variables
        self.variables.require(self.manifest.variables)
        self._load()
        self._bindings: dict[tuple[tuple[int, ...], ...], Binding] = {}
        self._recyclers = [Recycler(spec.numpy) for spec in self.manifest.outputs]
        self._describe_arguments()
        first = self._first_result = len(self.manifest.inputs)
        self._scalar_results = [
            (at, first + at) for at, spec in enumerate(self.manifest.outputs) if not spec.dims
        ]
        self._writes, self._random = self.manifest.writes, self.manifest.random
        self._alone = self._writes or self._random  # of all that uses the variables
        self._shares = self._alone or bool(self.manifest.variables)

    def _load(self) -> None:
        """Makes the object code ready to be called."""
        names = (self.manifest.entry, self.manifest.layout)
        self._code = jit.load(self.artifact.object_bytes, names)
        self._entries = Entries(*map(self._code.address, names))

    def _describe_arguments(self) -> None:
        """What each call asks of its arguments."""
        self._arguments = self._door()
        inputs = list(enumerate(self.manifest.inputs))
        self._names = [spec.name for spec in self.manifest.inputs]
        self._names += [spec.name for spec in self.manifest.sizes]
        self._places = {name: at for at, name in enumerate(self._names)}
        self._defaults = [spec.default for spec in self.manifest.inputs]
        self._defaults += [spec.default for spec in self.manifest.sizes]
        self._direct = len(self._names) if self._arguments.in_order else -1
        self._arrays = [(at, spec.numpy) for at, spec in inputs if spec.dims]
        self._scalars = [
            (at, spec.numpy.type if spec.dtype != "bf16" else None,
             scalar_check(self._arguments, spec))
            for at, spec in inputs if not spec.dims
        ]  # fmt: skip
        self._sizes = bool(self.manifest.sizes)

    def _door(self) -> Arguments:
        return Arguments(self.manifest)

    def array_of(self, value: object) -> Any:
        """A value as an array where the function can read it; `NoArray` if it is none."""
        return array_of(value)

    def placed(self, rows: dict[str, Any]) -> dict[str, Any]:
        """Rows for many steps where they are read best: here as they are."""
        return rows

    @property
    def name(self) -> str:
        """The function's name in the program."""
        return self.manifest.name

    def __repr__(self) -> str:
        outputs = ", ".join(spec.text for spec in self.manifest.outputs)
        return f"<function {self.name}({self._arguments.signature()}) -> ({outputs})>"

    def __call__(self, *positional: object, **named: object) -> Any:
        if named or len(positional) != self._direct:
            values = self._gather(positional, named)
        else:
            values = list(positional)
        shapes = []
        for at, dtype in self._arrays:
            value: Any = values[at]
            # `carray` asks for C-contiguous, aligned and writeable at once; others go the long way
            if type(value) is not np.ndarray or value.dtype is not dtype or not value.flags.carray:
                values[at] = value = self._arguments.admit(at, value)
            shapes.append(value.shape)
        if self._sizes:
            shapes.append(self._given_sizes(values))
        binding = self._bindings.get(key := tuple(shapes)) or self._bind(key, values)
        try:
            frame = binding.frames.pop()
        except IndexError:
            frame = binding.code.frame(binding)
        try:
            return binding.code._run(frame, binding, values)
        finally:
            if not frame.callbacks or not frame.raised():  # else its callbacks have had their day
                binding.frames.append(frame)

    def run_steps(self, steps: int, feed: Feed) -> Any:
        """The results of many calls, each an array with the steps along its first axis."""
        from dlc.runtime.steps import run_steps

        return run_steps(self, steps, feed)

    def _gather(self, positional: tuple[object, ...], named: dict[str, object]) -> list[Any]:
        """The values in order, defaults filled in."""
        given = len(positional)
        if not given and len(named) == len(self._names):
            try:
                return [named[name] for name in self._names]
            except KeyError:
                pass  # the long way says what is wrong
        elif given <= self._direct:
            values = [*positional, *self._defaults[given:]]
            for name, value in named.items():
                at = self._places.get(name, -1)
                if at < given:
                    break
                values[at] = value
            else:
                if all(value is not None for value in values):
                    return values
        return self._arguments.gather(positional, named)

    def _check(self, at: int) -> Accept:
        """What a scalar must pass."""
        return next(check for place, _, check in self._scalars if place == at)

    def _binding_of(self, values: list[Any]) -> Binding:
        """The binding for arguments that were admitted."""
        shapes = [values[at].shape for at, _ in self._arrays]
        if self._sizes:
            shapes.append(self._given_sizes(values))
        return self._bindings.get(key := tuple(shapes)) or self._bind(key, values)

    def _given_sizes(self, values: list[Any]) -> tuple[int, ...]:
        given = values[self._first_result:]
        return tuple(self._arguments.size(at, n) for at, n in enumerate(given))

    def _bind(self, key: tuple[tuple[int, ...], ...], values: list[Any]) -> Binding:
        """A binding for shapes that are new here."""
        binding = self._binding(self._arguments.bind(values))
        if len(self._bindings) >= KEPT_BINDINGS:
            self._bindings.clear()
        self._bindings[key] = binding
        return binding

    def _binding(self, sizes: dict[str, int]) -> Binding:
        code = self._code_for(sizes)
        return Binding(code, sizes, code._entries, self._recyclers)

    def _code_for(self, sizes: dict[str, int]) -> Function:
        """This function, or the same made for few of its batch."""
        size = sizes.get(self.manifest.batch, 0)
        likely = next((n for limit, n in self.manifest.few if 0 < size <= limit), None)
        if self._few is None or likely is None:
            return self
        with self._making:
            if likely not in self._for_few:
                made = Function(self._few(likely), self.variables)
                # What lies in the lanes either way is done as well by the code for many.
                same = likely > 1 and made.manifest.in_lanes
                self._for_few[likely] = self if same else made
        return self._for_few[likely]

    def frame(self, binding: Binding) -> Frame:
        """A block for a call."""
        return Frame(self.manifest, binding, self.variables.random, self._times)

    def arena_size(self, **sizes: int) -> int:
        """Bytes of scratch memory of a call in which the symbols have these sizes."""
        return self._binding({name: sizes[name] for name in self.manifest.symbols}).arena_size

    def _run(self, frame: Frame, binding: Binding, values: list[Any]) -> Any:
        """Fill in the frame, run, and collect the results. `values` keeps the inputs alive."""
        pointers, cells = frame.pointers, frame.cells
        for at, kind, check in self._scalars:
            value = values[at]
            cells[at][()] = value if type(value) is kind else check(value)
        for at, _ in self._arrays:
            pointers[at] = address_of(values[at])
        results: list[Any] = []
        for at, shape, dtype, recycler in binding.results:
            result = np.empty(shape, dtype) if recycler is None else recycler.take(shape)
            pointers[at] = address_of(result)
            results.append(result)
        if self._shares:
            self._enter_locked(frame, binding, values)
        else:
            self._enter(frame, binding)
        for at, cell in self._scalar_results:
            results.insert(at, cells[cell][()])
        if len(results) == 1:
            return results[0]
        return tuple(results) if results else None

    def _enter_locked(self, frame: Frame, binding: Binding, values: list[Any]) -> None:
        """Run with the lock of the variables held."""
        lock = self.variables.lock
        while True:
            # Who reads briefly, and keeps the interpreter's lock meanwhile, keeps nobody waiting by
            # being alone: that costs 0.5 µs less.
            alone = self._alone or (binding.brief and not lock.writing.locked())
            with lock.writing if alone else lock.reading:
                if frame.version == self.variables.version or self._point_at_variables(frame):
                    if self._writes:
                        self._copy_variables_given(frame, values)
                    return self._enter(frame, binding)
            self.variables.require(self.manifest.variables)

    def _copy_variables_given(self, frame: Frame, values: list[Any]) -> None:
        """Inputs that lie in a variable's memory are copied, before that changes."""
        for at, _ in self._arrays:
            value = values[at]
            if self.variables.overlaps(frame.pointers[at] or 0, value.nbytes):
                values[at] = value = value.copy()
                frame.pointers[at] = address_of(value)

    def _enter(self, frame: Frame, binding: Binding) -> None:
        """Call the compiled code, with an arena if it wants one, and raise what it failed with.

        A signal (Ctrl-C) may end it in a loop, with nothing changed. If it does not, its exception
        is raised right after the call: the step is done by then, so it must count, or a model saved
        afterwards would not go on the same way.
        """
        size = binding.arena_size
        arena = None
        try:
            if size:
                arena = arenas.take(size)
                frame.context.arena = arena.address
            binding.enter(frame.address)
        finally:
            if arena is not None:
                arenas.give(arena)
            if self._random and not frame.status[0]:
                self.variables.random[1] += 1
        if frame.callbacks and (raised := frame.raised()):
            raise raised[0]
        if frame.status[0]:
            self._raise_status(frame)

    def _point_at_variables(self, frame: Frame) -> bool:
        """Take the addresses of the variables; False if some lie in a layout that is not ours."""
        start = self._first_result + len(self.manifest.outputs)
        for at, spec in enumerate(self.manifest.variables, start):
            if self.variables.spec(spec.name) != spec:
                return False
            frame.pointers[at] = address_of(self.variables.storage(spec.name))
        frame.version = self.variables.version
        return True

    def _raise_status(self, frame: Frame) -> None:
        """Turn the status of a failed call into an error."""
        code, value = int(frame.status[0]), int(frame.status[1])
        frame.status[0] = 0
        text, location = self.manifest.checks[code - 1]
        raise CheckFailed(self.name, text, location, value)
