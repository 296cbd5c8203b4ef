"""The Python of the examples and of the README runs, and makes the Graphs of the text's."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import dlc
from tests.frontend.test_tracing import bare

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples" / "python"
SECTION = re.search(r"^## Python\n(.*?)^## ", (ROOT / "README.md").read_text(), re.M | re.S)


def test_lenet5_makes_the_graphs_of_the_text() -> None:
    spec = importlib.util.spec_from_file_location("lenet5", EXAMPLES / "lenet5.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made, text = module.PlainLeNet5(), dlc.load(ROOT / "examples/plain_lenet5.dl").PlainLeNet5()
    for name in ("scores", "fit"):
        assert bare(getattr(made, name).graph) == bare(getattr(text, name).graph), name
    for name, value in text.variables.items():
        np.testing.assert_array_equal(made.variables[name], value)


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.py")), ids=lambda file: file.name)
def test_every_example_runs(file: Path) -> None:
    result = subprocess.run([sys.executable, str(file)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    numbers = re.findall(r"\d+\.\d+", result.stdout)
    assert float(numbers[-1]) < 0.5
    assert f"python/{file.name}`" in (ROOT / "examples/README.md").read_text()


def test_the_python_of_the_readme_runs(tmp_path: Path) -> None:
    assert SECTION is not None
    code = "\n".join(re.findall(r"^```python\n(.*?)^```", SECTION[1], re.M | re.S))
    assert "dlc.load" in code
    assert "dlc.Model" in code
    assert "register_op" in code
    given = """
import numpy as np
images = np.zeros((4, 28, 28), np.uint8)
labels = np.arange(4, dtype=np.uint8)
pictures = np.zeros((4, 1, 32, 32), np.float32)
x, label = np.ones((4, 784), np.float32), labels
"""
    (tmp_path / "readme.py").write_text(given + code)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    result = subprocess.run(
        [sys.executable, "readme.py"], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
