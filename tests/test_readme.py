"""What the README promises: its commands exist, and CI runs the very one that it gives."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from dlc.compiler.options import Options
from dlc.compiler.pipeline import passes

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def commands() -> list[str]:
    """The lines of the README's shell blocks, without their comments."""
    blocks = re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    return [line.partition("  #")[0].strip() for block in blocks for line in block.splitlines()]


def test_the_first_two_commands_set_up_and_do_the_job() -> None:
    main_job, tests = commands()[:2]
    for command in (main_job, tests):
        assert command.startswith("python3 -m venv .venv && .venv/bin/pip install -q ")
    assert main_job.endswith("&& .venv/bin/dlc train examples/lenet5.dl")
    assert tests.endswith("&& .venv/bin/python -m pytest -q -n 2 tests")


def test_ci_runs_the_command_of_the_readme(tmp_path: Path) -> None:
    """CI's way to find it gives that command and no other line."""
    script = (ROOT / ".ci" / "run").read_text()
    (finder,) = re.findall(r"^test_command=\$\((.*)\)$", script, re.MULTILINE)
    found = subprocess.run(["bash", "-c", finder], cwd=ROOT, capture_output=True, text=True)
    assert found.stdout.strip() == commands()[1]
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_files_named_in_the_readme_exist() -> None:
    named = set(re.findall(r"\b(?:examples|tests|frontend|compiler|runtime|ir)/[\w./-]*", README))
    assert {"examples/lenet5.dl", "frontend/", "ir/"} <= named
    missing = [name for name in named if not (ROOT / name).exists()]
    assert missing == []


def test_the_compilers_readme_lists_the_passes_in_their_order() -> None:
    text = (ROOT / "compiler" / "README.md").read_text()
    listed = re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)
    both = (*passes(Options()), *passes(Options(target="cuda:sm_80")))
    assert listed == list(dict.fromkeys(p.name for p in both))
