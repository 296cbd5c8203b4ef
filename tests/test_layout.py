"""The house: which folder may import which, how large things grow, and that it installs."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tomllib
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# What each folder may import of ours, besides itself.
ARROWS = {
    "ir": set[str](),
    "compiler": {"ir"},
    "runtime": set[str](),
    "frontend": {"ir", "compiler", "runtime"},
}
LONGEST_FILE = 400
LONGEST_FUNCTION = 60


def python_files(*folders: str) -> list[Path]:
    return [
        file
        for folder in folders
        for file in sorted((ROOT / folder).rglob("*.py"))
        if "__pycache__" not in file.parts
    ]


ALL_FILES = python_files(*ARROWS, "tests")


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every module that the code imports, with its line; `from dlc import ir` counts as dlc.ir."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def against_the_arrows(folder: str, source: str) -> list[str]:
    """The imports that `folder` may not make. The frontend holds the face, so it may import all."""
    allowed = ARROWS[folder] | {folder}
    return [
        f"{line}: {module}"
        for line, module in imported(ast.parse(source))
        if folder != "frontend" and module.split(".")[0] == "dlc"
        if "".join(module.split(".")[1:2]) not in allowed
    ]


@pytest.mark.parametrize("folder", ARROWS)
def test_arrows_point_one_way(folder: str) -> None:
    wrong = {
        str(file.relative_to(ROOT)): found
        for file in python_files(folder)
        if (found := against_the_arrows(folder, file.read_text()))
    }
    assert wrong == {}


@pytest.mark.parametrize(
    ("folder", "source"),
    [
        ("ir", "import dlc.compiler.pipeline"),
        ("ir", "import dlc"),
        ("compiler", "def f():\n    from dlc.runtime import pool"),
        ("runtime", "from dlc import ir"),
        ("runtime", "from dlc.frontend.commands.cli import main"),
    ],
)
def test_the_arrow_test_sees(folder: str, source: str) -> None:
    assert len(against_the_arrows(folder, source)) == 1
    assert against_the_arrows("frontend", source) == []


def test_no_relative_imports() -> None:
    """They would hide the arrows."""
    relative = [
        f"{file.relative_to(ROOT)}:{node.lineno}"
        for file in python_files(*ARROWS)
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert relative == []


def test_files_and_functions_stay_small() -> None:
    large = []
    for file in ALL_FILES:
        source = file.read_text()
        if source.count("\n") > LONGEST_FILE:
            large.append(f"{file.relative_to(ROOT)}: {source.count(chr(10))} lines")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > LONGEST_FUNCTION:
                    large.append(f"{file.relative_to(ROOT)}:{node.lineno} {node.name}: {lines}")
    assert large == []


def test_every_module_says_what_it_is() -> None:
    silent = [
        str(file.relative_to(ROOT))
        for file in python_files(*ARROWS)
        if not ast.get_docstring(ast.parse(file.read_text()))
    ]
    assert silent == []


def test_every_folder_of_python_is_packaged() -> None:
    """A folder that pyproject.toml forgets would work here and be missing once installed."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    mapped = {ROOT / folder for folder in settings["package-dir"].values()}
    assert mapped == {file.parent for file in python_files(*ARROWS)}
    assert set(settings["packages"]) == set(settings["package-dir"])


def test_import_is_light() -> None:
    """`import dlc` must not pay for what only some commands need."""
    heavy = ("numpy", "lark", "llvmlite", "safetensors", "tqdm", "asyncio", "argparse")
    script = f"import dlc, sys; print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_the_root_shadows_nothing() -> None:
    """From the repository's root, whose folders are called `ir` and `runtime`, the names hold."""
    script = "import dlc.ir, dlc.runtime, dlc.compiler, dlc.frontend; print('well')"
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert result.stdout == "well\n"


def run(*command: str | Path, cwd: Path) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    result = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, cwd=cwd, env=environment
    )
    assert result.returncode == 0, result.stderr + result.stdout
    return result.stdout


def link_site_packages(python: Path) -> None:
    """Lets the environment of `python` see the dependencies installed beside this one's dlc."""
    (folder,) = python.parents[1].glob("lib/*/site-packages")
    (folder / "dependencies.pth").write_text(f"{Path(pytest.__file__).parents[1]}\n")


@pytest.mark.slow
def test_the_wheel_holds_everything(tmp_path: Path) -> None:
    """Built, installed into an empty environment, used from a folder that is not ours.

    No download: setuptools and the dependencies are those of the environment that runs the tests.
    """
    source = tmp_path / "source"
    unwanted = shutil.ignore_patterns("build", "*.egg-info", "__pycache__", ".*", "data", "tests")
    shutil.copytree(ROOT, source, ignore=unwanted)
    pip = (sys.executable, "-m", "pip", "-q", "--disable-pip-version-check")
    build = ("wheel", "--no-deps", "--no-build-isolation", "-w", tmp_path)
    run(*pip, *build, source, cwd=tmp_path)
    (wheel,) = tmp_path.glob("dlc-*.whl")
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    run(*pip, "--python", python, "install", "--no-deps", wheel, cwd=tmp_path)
    link_site_packages(python)
    modules = "dlc, dlc.ir, dlc.compiler, dlc.runtime, dlc.frontend.commands.cli"
    script = f"import {modules}; print(dlc.__file__)"
    assert str(tmp_path / "venv") in run(python, "-c", script, cwd=tmp_path)
    program = ROOT / "examples" / "lenet5.dl"
    assert "LeNet5" in run(python.parent / "dlc", "check", program, cwd=tmp_path)
    installed = {entry.name for entry in python.parents[1].glob("lib/*/site-packages/*")}
    assert not installed & {"ir", "compiler", "runtime", "frontend", "tests"}
