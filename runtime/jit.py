"""Object code in memory, and what of it needs LLVM: making it, and linking what `elf` can't.

`llvmlite` is imported for these alone.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from dlc.runtime.errors import ArtifactError

__all__ = ["Code", "compile_text", "load"]

_lock = threading.Lock()
_names = itertools.count()
_engine: Any = None


class Code:
    """Linked object code; it stays in memory as long as this object lives."""

    __slots__ = ("_addresses", "_owner", "linker")

    def __init__(self, owner: object, addresses: Mapping[str, int], linker: str) -> None:
        self._owner = owner
        self._addresses = addresses
        self.linker = linker  # who linked it, and why if it is not this package

    def address(self, symbol: str) -> int:
        """The address of an exported symbol; KeyError if it was not asked for at the load."""
        return self._addresses[symbol]


def load(
    object_bytes: bytes, symbols: Sequence[str], imports: Mapping[str, int] | None = None
) -> Code:
    """Link an object and find `symbols` in it; ArtifactError where that fails.

    Of an archive all objects are linked, each with what those before it have. Undefined symbols are
    looked for in `imports` (name to address), then in this process (so libc and libm are there).
    What `elf` does not know is linked by LLVM.
    """
    from dlc.runtime import elf

    objects = elf.members(object_bytes)
    images: list[elf.Image] = []
    known: dict[str, int] = {}
    try:
        for each in objects:
            images.append(elf.link(each, {**(imports or {}), **known}))
            known.update(images[-1].symbols)
    except elf.Unlinkable as reason:
        return _load_by_llvm(objects, symbols, imports or {}, str(reason))
    missing = [name for name in symbols if name not in known]
    if missing:
        raise ArtifactError(f"the object code can't be loaded: it has no `{missing[0]}`")
    return Code(images, {name: known[name] for name in symbols}, "dlc")


def _load_by_llvm(
    objects: Sequence[bytes], symbols: Sequence[str], imports: Mapping[str, int], reason: str
) -> Code:
    """The same by LLVM's JITLink, which takes 20 ms more, to import it."""
    import llvmlite.binding as llvm

    builder = llvm.JITLibraryBuilder().add_current_process()
    for each in objects:
        builder.add_object_img(each)
    for name, address in imports.items():
        builder.import_symbol(name, address)
    for name in symbols:
        builder.export_symbol(name)
    with _lock:
        engine = _make_engine()
        try:
            tracker = builder.link(engine, f"dlc_{next(_names)}")
            addresses = {name: int(tracker[name]) for name in symbols}
        except RuntimeError as error:
            raise ArtifactError(f"the object code can't be loaded: {error}") from error
    return Code(tracker, addresses, f"LLVM: {reason}")


def _make_engine() -> Any:
    """The process's one engine. Called with the lock held."""
    global _engine
    if _engine is None:
        import llvmlite.binding as llvm

        _initialize()
        _engine = llvm.create_lljit_compiler(use_jit_link=True, suppress_errors=True)
    return _engine


def _initialize() -> None:
    """Make LLVM know this machine; harmless when repeated."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


def compile_text(text: str) -> bytes:
    """Object code of LLVM IR text for any CPU of this machine's family, position-independent."""
    import llvmlite.binding as llvm

    with _lock:
        _initialize()
    target = llvm.Target.from_default_triple()
    machine = target.create_target_machine(opt=2, reloc="pic", codemodel="small")
    module = llvm.parse_assembly(text, llvm.create_context())
    module.triple, module.data_layout = target.triple, str(machine.target_data)
    module.verify()
    return bytes(machine.emit_object(module))


# A fork in the middle of another thread's load would leave LLVM locked in the child.
os.register_at_fork(
    before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release
)
