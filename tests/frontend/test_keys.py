"""Keys of what is kept on disk: they change with all that matters and with nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dlc.frontend import keys
from dlc.runtime import machine


def test_a_program_is_its_files(tmp_path: Path) -> None:
    main, other = tmp_path / "a.dl", tmp_path / "b.dl"
    main.write_text('import "b.dl"\nimport nn\n')
    other.write_text("# one")
    first = keys.program_key(main)
    os.utime(main, (1, 1))
    assert keys.program_key(main) == first
    other.write_text("# two")
    second = keys.program_key(main)
    assert second != first
    (tmp_path / "c.dl").write_text("")
    assert keys.program_key(main) == second
    other.write_text('# two, and import "c.dl"')
    third = keys.program_key(main)
    (tmp_path / "c.dl").write_text("# new")
    assert keys.program_key(main) != third


def test_imports_that_lead_back_end(tmp_path: Path) -> None:
    main = tmp_path / "a.dl"
    main.write_text('import "a.dl"\nimport "nowhere.dl"')
    assert keys.program_key(main)


def test_messages_name_the_file_so_the_name_is_part(tmp_path: Path) -> None:
    for name in ("a.dl", "b.dl"):
        (tmp_path / name).write_text("same")
    assert keys.program_key(tmp_path / "a.dl") != keys.program_key(tmp_path / "b.dl")


def test_a_model_is_its_arguments() -> None:
    first = keys.model_key("p", "M", {"width": 3, "depth": 2})
    assert first == keys.model_key("p", "M", {"depth": 2, "width": 3})
    others = [("p", "M", {"width": 3}), ("p", "N", {"width": 3, "depth": 2}), ("q", "M", {})]
    assert first not in {keys.model_key(*other) for other in others}


def test_parts_do_not_run_together() -> None:
    assert keys.digest("ab", "c") != keys.digest("a", "bc") != keys.digest("abc")


def test_code_is_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    here = keys.code_key("m", "f")
    assert here != keys.code_key("m", "g")
    monkeypatch.setattr(machine, "cpu", lambda: "another CPU")
    assert keys.code_key("m", "f") != here
