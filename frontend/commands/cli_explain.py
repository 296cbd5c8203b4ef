"""`dlc explain`: what an error means, with a program that has it and the same program mended."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from dlc.frontend.explanations import explanation, explanations


def run(options: argparse.Namespace) -> int:
    """Prints one entry, or a line for each."""
    if options.error:
        one = explanation(options.error)
        print(json.dumps(asdict(one)) if options.json else one)
        return 0
    known = explanations()
    if options.json:
        print(json.dumps({name: each.line for name, each in known.items()}))
        return 0
    width = max(map(len, known))
    for name, each in known.items():
        print(f"{name:<{width}}  {each.line}")
    return 0
