"""For all tests: compiled code is kept in a folder of this run, not in the user's cache."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

# Workers of pytest-xdist inherit the environment of who started them, and share the folder.
if "DLC_TEST_CACHE" not in os.environ:
    _folder = tempfile.mkdtemp(prefix="dlc-test-cache-")
    os.environ["DLC_TEST_CACHE"] = _folder
    atexit.register(shutil.rmtree, _folder, ignore_errors=True)
os.environ["DLC_CACHE"] = os.environ["DLC_TEST_CACHE"]
