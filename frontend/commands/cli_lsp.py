"""`dlc lsp`: the language server, for editors; it speaks over standard input and output."""

from __future__ import annotations

import argparse
from importlib.util import find_spec

from dlc.frontend.errors import user_error


def run(options: argparse.Namespace) -> int:
    """Serves until the editor leaves: 0 if it said so before, else 1."""
    if find_spec("pygls") is None:
        raise user_error("needs-pygls", "`dlc lsp` needs pygls, which is not installed",
                         "pip install 'dlc[lsp]'")
    from dlc.frontend.server.service import serve

    return serve()
