"""A program: its files, what they define, what they import."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from dlc.frontend.text import syntax
from dlc.frontend.text.parse import parse_source, read_source
from dlc.ir.diagnostics import Diagnostics, SourceFile, UserError, did_you_mean

LIBRARY: Final = Path(__file__).parents[1] / "library"
Named = syntax.Const | syntax.Function | syntax.Model | syntax.Optimizer


@dataclass(slots=True, eq=False)
class Module:
    """One file: its definitions by name, and the modules that it imports."""

    name: str
    path: Path
    tree: syntax.File
    library: bool = False
    definitions: dict[str, Named] = field(default_factory=dict)
    packages: dict[str, Module] = field(default_factory=dict)
    imported: list[Module] = field(default_factory=list)

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
    """A file with all that it imports, and the prelude."""

    main: Module
    prelude: Module
    sources: dict[str, SourceFile]
    modules: tuple[Module, ...]

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
    return _Loader().load(path, read_source(path, name))


def program_of(text: str, name: str = "program.dl", folder: Path | None = None) -> Program:
    """The program that `text` is; it imports from `folder`."""
    return _Loader().load((folder or Path()) / name, SourceFile(name, text))


class _Loader:
    def __init__(self) -> None:
        self.sources: dict[str, SourceFile] = {}
        self.found = Diagnostics(self.sources)
        self.modules: dict[Path, Module] = {}
        self.loading: list[Path] = []

    def load(self, path: Path, source: SourceFile) -> Program:
        """The program whose main file is `source`."""
        prelude = self._module(LIBRARY / "prelude.dl", None, True)
        main = self._module(path, source, False)
        self.found.raise_if_any()
        assert prelude is not None
        assert main is not None
        return Program(main, prelude, self.sources, tuple(self.modules.values()))

    def _module(self, path: Path, source: SourceFile | None, library: bool) -> Module | None:
        """The file at `path`, read once; None after an error in it."""
        place = path.resolve()
        if place in self.modules:
            return self.modules[place]
        if source is None:
            source = read_source(path, f"<{path.name}>" if library else None)
        self.sources[source.name] = source
        try:
            tree = parse_source(source)
        except UserError as error:
            for diagnostic in error.diagnostics:
                self.found.add(diagnostic)
            return None
        module = Module(path.stem, path, tree, library)
        self.modules[place] = module
        self.loading.append(place)
        for definition in tree.definitions:
            if isinstance(definition, syntax.Import):
                self._import(module, definition)
            elif isinstance(definition, Named):
                self._define(module, definition)
        self.loading.pop()
        self._check_doubles(module)
        return module

    def _import(self, module: Module, statement: syntax.Import) -> None:
        if statement.quoted:
            self._import_file(module, statement)
            return
        path = LIBRARY / f"{statement.name}.dl"
        if statement.name == "prelude" or not path.is_file():
            known = sorted(p.stem for p in LIBRARY.glob("*.dl") if p.stem != "prelude")
            help = did_you_mean(statement.name, known) or (
                f"the standard library has {', '.join(known)}; "
                f"a file beside this one is imported as \"{statement.name}.dl\"")
            self.found.error("unknown-import", f"there is no module `{statement.name}`",
                             statement.span, help=help)
            return
        found = self._module(path, None, True)
        if found is not None:
            module.packages[statement.name] = found

    def _import_file(self, module: Module, statement: syntax.Import) -> None:
        relative = Path(statement.name)
        if relative.is_absolute() or ".." in relative.parts or "\0" in statement.name:
            self.found.error("unknown-import", "an import stays in the folder of its file",
                             statement.span)
            return
        path = module.path.parent / relative
        if path.resolve() in self.loading:
            self.found.error("import-cycle", f'"{statement.name}" leads back to itself',
                             statement.span)
            return
        known = path.resolve() in self.modules
        try:
            found = self.modules[path.resolve()] if known else self._module(
                path, read_source(path), False)
        except UserError as error:
            self.found.error("unknown-import", error.diagnostics[0].message, statement.span)
            return
        if found is not None:
            module.imported.append(found)

    def _define(self, module: Module, definition: Named) -> None:
        name = definition.name
        if isinstance(definition, syntax.Function) and definition.kind == "step":
            self.found.error("misplaced", "a `step` stands in a model", definition.name.span)
        first = module.definitions.setdefault(name.text, definition)
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
