"""What commands say to programs is JSON, whatever numbers are in it."""

from __future__ import annotations

import json
import math

import pytest

from dlc.frontend.json_lines import print_json


def test_what_json_has_not_is_null(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"loss": math.nan, "results": [1.5, [math.inf, -math.inf], 2], "name": "x"})
    line = capsys.readouterr().out
    assert line.endswith("\n")
    assert json.loads(line) == {"loss": None, "results": [1.5, [None, None], 2], "name": "x"}
