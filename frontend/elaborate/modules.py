"""A program: its files, what they define, what they import."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dlc.frontend.elaborate.library_text import Named, library_definitions, with_float
from dlc.frontend.text import syntax
from dlc.frontend.text.habits import MODULES
from dlc.frontend.text.parse import Parsed, parse_partly, read_source
from dlc.ir.dataclass import dataclass
from dlc.ir.diagnostics import Diagnostics, SourceFile, Span, UserError, did_you_mean
from dlc.ir.types import F32, DType

if TYPE_CHECKING:
    from dlc.frontend.elaborate.frames import Frame
    from dlc.frontend.elaborate.values import Value

LIBRARY: Final = Path(__file__).parents[1] / "library"
_DEEPEST: Final = 100  # files that import one another
Reader = Callable[[Path, str | None], SourceFile]  # gives the text of a file; UserError if none
Observer = Callable[["Frame", Span, "Value"], None]  # is told what is written at a place


@dataclass(slots=True, eq=False)
class Module:
    """One file: its definitions by name, and the modules that it imports."""

    name: str
    path: Path
    tree: syntax.File  # of a file of the library without its definitions, unless an editor reads it
    library: bool = False
    definitions: Mapping[str, Named] = field(default_factory=dict)
    packages: dict[str, Module] = field(default_factory=dict)
    imported: list[Module] = field(default_factory=list)
    broken: frozenset[str] = frozenset()  # names whose definitions or modules could not be read
    partial: bool = False  # whether a file that it imports could not be read: it may define more
    default_float: DType = F32  # of what meets no type, and of a `float` that nothing binds

    def find(self, name: str) -> tuple[Named, Module] | None:
        """What `name` is in this file or in those that it imports without a qualifier."""
        for module in (self, *self.imported):
            if name in module.definitions:
                return module.definitions[name], module
        return None

    def names(self) -> list[str]:
        """All names that stand for something in this file."""
        imported = [n for m in self.imported for n in m.definitions]
        return [*self.definitions, *self.packages, *imported]


@dataclass(slots=True, eq=False)
class Program:
    """A file with all that it imports, and the prelude; `faults` is what is wrong in reading it."""

    main: Module
    prelude: Module
    sources: dict[str, SourceFile]
    modules: tuple[Module, ...]
    faults: Diagnostics = field(default_factory=Diagnostics)
    device: str = "cpu"  # where it runs
    observer: Observer | None = None  # of every expression, and of each name that is given a value

    def text_of(self, span: Span) -> str:
        """What is written at `span`, in its lines."""
        source = self.sources[span.file]
        lines = [source.line(number) for number in range(span.line, span.end_line + 1)]
        lines[-1] = lines[-1][: span.end_column - 1]
        lines[0] = lines[0][span.column - 1 :]
        return "\n".join(lines)

    def models(self) -> dict[str, tuple[syntax.Model, Module]]:
        """The models of the main file and of the files that it imports, by name."""
        found: dict[str, tuple[syntax.Model, Module]] = {}
        for module in (self.main, *self.main.imported):
            for name, definition in module.definitions.items():
                if isinstance(definition, syntax.Model):
                    found[name] = definition, module
        return found


def load_program(path: Path, name: str | None = None) -> Program:
    """Reads a file and what it imports; `UserError` for syntax errors, imports, doubled names."""
    program = read_program(path, name)
    program.faults.raise_if_any()
    return program


def read_program(
    path: Path, name: str | None = None, read: Reader = read_source, default_float: DType = F32
) -> Program:
    """As `load_program`, but what is wrong is kept, so that the rest can be checked too. An editor
    has `read` give the texts that are open in it. The library is read as if it said `float`
    wherever it says f32."""
    return _Loader(read, default_float).load(path, read(path, name))


def program_of(text: str, name: str = "program.dl", folder: Path | None = None) -> Program:
    """The program that `text` is; it imports from `folder`."""
    program = _Loader().load((folder or Path()) / name, SourceFile(name, text))
    program.faults.raise_if_any()
    return program


@lru_cache(8)
def _parsed(source: SourceFile, default_float: DType) -> Parsed:
    """A file of the library as a whole."""
    parsed = parse_partly(source)
    if parsed.tree is None:
        return parsed
    return replace(parsed, tree=with_float(parsed.tree, default_float))


class _Loader:
    def __init__(self, read: Reader = read_source, default_float: DType = F32) -> None:
        self.read = read
        self.default_float = default_float
        self.sources: dict[str, SourceFile] = {}
        self.found = Diagnostics(self.sources)
        self.modules: dict[Path, Module] = {}
        self.loading: list[Path] = []

    def load(self, path: Path, source: SourceFile) -> Program:
        """The program whose main file is `source`; `UserError` if nothing of it could be read."""
        prelude = self._module(LIBRARY / "prelude.dl", None, True)
        main = self._module(path, source, False)
        if main is None:
            self.found.raise_if_any()
        assert prelude is not None
        assert main is not None
        return Program(main, prelude, self.sources, tuple(self.modules.values()), self.found)

    def _module(self, path: Path, source: SourceFile | None, library: bool) -> Module | None:
        """The file at `path`, read once; None if nothing of it could be read."""
        place = path.resolve()
        if place in self.modules:
            return self.modules[place]
        if source is None:
            source = self.read(path, f"<{path.name}>" if library else None)
        self.sources[source.name] = source
        if library and self.read is read_source:
            return self._library_module(place, path, source)
        parsed = _parsed(source, self.default_float) if library else parse_partly(source)
        for diagnostic in parsed.faults:
            self.found.add(diagnostic)
        if parsed.tree is None:
            return None
        definitions: dict[str, Named] = {}
        module = Module(path.stem, path, parsed.tree, library, definitions, broken=parsed.broken,
                        default_float=self.default_float)
        self.modules[place] = module
        self.loading.append(place)
        for definition in parsed.tree.definitions:
            if isinstance(definition, syntax.Import):
                self._import(module, definition)
            elif isinstance(definition, Named):
                self._define(definitions, definition)
        self.loading.pop()
        self._check_doubles(module)
        return module

    def _library_module(self, place: Path, path: Path, source: SourceFile) -> Module:
        """A file of the library, which imports nothing, with definitions that are parsed later."""
        empty = syntax.File(Span(source.name, 1, 1, 1, 1), None, ())
        module = self.modules[place] = Module(
            path.stem, path, empty, True, library_definitions(source, self.default_float),
            default_float=self.default_float)
        return module

    def _import(self, module: Module, statement: syntax.Import) -> None:
        if statement.quoted:
            self._import_file(module, statement)
            return
        name = statement.name
        path = LIBRARY / f"{name}.dl"
        if name == "prelude" or not path.is_file():
            self._no_module(statement)
            found = None
        else:
            found = self._module(path, None, True)
        if found is not None:
            module.packages[name] = found
        else:
            module.broken |= {name}

    def _no_module(self, statement: syntax.Import) -> None:
        name = statement.name
        if name in MODULES:
            self.found.error("python-module", f"`{name}` is a module of Python, not of the "
                             "language", statement.span, help="the functions of the prelude need "
                             "no import: `sqrt(x)`")
            return
        known = sorted(p.stem for p in LIBRARY.glob("*.dl") if p.stem != "prelude")
        help = did_you_mean(name, known) or (
            f"the standard library has {', '.join(known)}; "
            f"a file beside this one is imported as \"{name}.dl\"")
        self.found.error("unknown-import", f"there is no module `{name}`", statement.span,
                         help=help)

    def _import_file(self, module: Module, statement: syntax.Import) -> None:
        found = self._file(module, statement)
        if found is None:
            module.partial = True
            return
        module.imported.append(found)
        module.broken |= found.broken
        module.partial |= found.partial

    def _file(self, module: Module, statement: syntax.Import) -> Module | None:
        """The module that an import in quotes names; None after an error."""
        relative = Path(statement.name)
        folder = module.path.parent
        outside = relative.is_absolute() or ".." in relative.parts or "\0" in statement.name
        path = folder / relative
        try:
            place = path.resolve()
        except (OSError, RuntimeError, ValueError):  # links that lead in a circle
            self.found.error("unknown-import", f'"{statement.name}" can\'t be opened',
                             statement.span)
            return None
        if outside or not place.is_relative_to(folder.resolve()):
            self.found.error("import-outside", "an import stays in the folder of its file",
                             statement.span, help="paths are relative, without `..`, and no link "
                             "leads out of the folder")
            return None
        if place in self.loading:
            self.found.error("import-cycle", f'"{statement.name}" leads back to itself',
                             statement.span)
            return None
        if place in self.modules:
            return self.modules[place]
        if len(self.loading) > _DEEPEST:
            self.found.error("too-deep", f"imports of imports, more than {_DEEPEST} deep",
                             statement.span)
            return None
        try:
            return self._module(path, self.read(path, None), False)
        except UserError as error:
            found = error.diagnostics[0]
            at = f" (line {found.span.line})" if found.span is not None else ""
            self.found.error("unknown-import", found.message + at, statement.span)
            return None

    def _define(self, definitions: dict[str, Named], definition: Named) -> None:
        name = definition.name
        if isinstance(definition, syntax.Function) and definition.kind == "step":
            self.found.error("step-outside", "a `step` stands in a model", definition.name.span)
        first = definitions.setdefault(name.text, definition)
        if first is not definition:
            self.found.error("defined-twice", f"`{name.text}` is defined twice", name.span,
                             (f"first at {first.name.span}",))

    def _check_doubles(self, module: Module) -> None:
        seen: dict[str, Module] = dict.fromkeys(module.definitions, module)
        for other in module.imported:
            for name, definition in other.definitions.items():
                before = seen.setdefault(name, other)
                if before is not other:
                    place = before.definitions[name].name.span
                    self.found.error("defined-twice", f"`{name}` is defined twice",
                                     definition.name.span, (f"also at {place}",))
