"""`dlc explain`: what an error means, with a program that has it and the same program mended."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from dlc.frontend.explanations import explanation, explanations
from dlc.frontend.json_lines import print_json


def run(options: argparse.Namespace) -> int:
    """Prints one entry, or a line for each."""
    if options.error:
        one = explanation(options.error)
        if options.json:
            print_json(asdict(one))
        else:
            print(one)
        return 0
    known = explanations()
    if options.json:
        print_json({name: each.line for name, each in known.items()})
        return 0
    width = max(map(len, known))
    for name, each in known.items():
        print(f"{name:<{width}}  {each.line}")
    return 0
