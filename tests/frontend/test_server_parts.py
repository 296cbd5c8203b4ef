"""What the language server knows, without its protocol: meanings of names, checks, its words."""

from __future__ import annotations

from pathlib import Path
from threading import Event

import pytest

from dlc.frontend.commands import cli_lsp
from dlc.frontend.commands.cli import main
from dlc.frontend.elaborate.builtins import BUILTINS
from dlc.frontend.elaborate.elaboration import Elaboration
from dlc.frontend.elaborate.modules import LIBRARY
from dlc.frontend.inputs import KEYS
from dlc.frontend.server.analysis import Stale, analyse
from dlc.frontend.server.names import Names
from dlc.frontend.server.places import Places, start
from dlc.frontend.server.pointed import pointed_at
from dlc.frontend.server.reference import BUILTIN_DOCS, KEYWORDS, NAMED, SETTINGS, TYPES
from dlc.frontend.server.texts import Texts
from dlc.frontend.server.told import hover
from dlc.frontend.server.tree import nodes
from dlc.frontend.text import syntax
from dlc.frontend.text.words import NAMED_CONSTANTS, keywords, types, values
from dlc.ir.diagnostics import SourceFile
from dlc.ir.ops import OPS
from tests.frontend.language_client import NET

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.dl"))


def test_every_word_has_a_line_of_its_own() -> None:
    assert set(KEYWORDS) == {*keywords(), *values()}
    assert set(TYPES) == set(types())
    assert set(NAMED) == set(NAMED_CONSTANTS)
    assert set(SETTINGS) == set(KEYS)
    assert set(BUILTIN_DOCS) <= set(BUILTINS)
    assert [name for name in BUILTINS if name not in BUILTIN_DOCS and name not in OPS] == []


def stands_alone(path: tuple[syntax.Syntax, ...]) -> bool:
    """Whether a name is defined nowhere: `x.T`, a phase, `clip_norm=`, `reverse=`, `_`."""
    name, parent, above = path[-1], path[-2], path[-3]
    assert isinstance(name, syntax.Name)
    option = isinstance(parent, syntax.Argument) and isinstance(
        above, syntax.Minimize | syntax.Scan) and parent.name is name
    return name.text in ("T", "shape", "_") or isinstance(parent, syntax.Phase) or option


@pytest.mark.parametrize("path", [*EXAMPLES, *sorted(LIBRARY.glob("*.dl"))], ids=lambda p: p.stem)
def test_every_name_of_a_program_means_something_and_is_shown(path: Path) -> None:
    made = analyse(path, Texts(), Event())
    assert (made.problem, made.diagnostics) == ("", ())
    assert made.program is not None
    names, module = Names(made.program), made.program.main
    found = [p for p in nodes(module.tree) if isinstance(p[-1], syntax.Name)]
    assert len(found) > 30
    for each in found:
        pointed = pointed_at(names, module, start(each[-1].span))
        assert pointed.leaf is each[-1]
        assert stands_alone(each) or pointed.meaning is not None, each[-1]
        if pointed.meaning is not None:
            shown = hover(made, start(each[-1].span))
            assert shown is not None
            assert shown[1] == each[-1].span
            assert pointed.meaning.name in shown[0]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32"])
def test_places_go_there_and_back(encoding: str) -> None:
    places = Places(SourceFile("a.dl", "é𝒳x\n\nab\u2028c"), encoding)
    points = [(1, 1), (1, 2), (1, 3), (1, 4), (2, 1), (3, 1), (3, 3), (3, 4), (3, 5)]
    for point in points:
        assert places.given(*places.told(*point)) == point
    assert places.given(0, 99) == (1, 4)
    assert places.given(9, 9) == (10, 1)


def test_a_check_gives_up_once_its_text_is_stale(tmp_path: Path) -> None:
    texts, stale = Texts(), Event()
    texts.put(tmp_path / "net.dl", NET)
    assert analyse(tmp_path / "net.dl", texts, stale).seen
    stale.set()
    with pytest.raises(Stale):
        analyse(tmp_path / "net.dl", texts, stale)


def test_a_fault_of_ours_is_kept_and_does_not_hide_what_was_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Elaboration, "check_all", fail)
    texts = Texts()
    texts.put(tmp_path / "net.dl", NET + "\nfn f( = 1\n")
    made = analyse(tmp_path / "net.dl", texts, Event())
    assert "RuntimeError: a bug" in made.problem
    assert len(made.diagnostics) == 1


def test_without_pygls_the_command_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli_lsp, "find_spec", lambda name: None)
    assert main(["lsp", "--stdio"]) == 1
    assert "pip install 'dlc[lsp]'" in capsys.readouterr().err
