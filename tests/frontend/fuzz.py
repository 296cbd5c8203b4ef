"""Programs that nobody would write: made from the grammar, and valid files with bytes changed.

Whatever it is, `dlc check` says what is wrong with it, or nothing: no traceback, no more than
`SECONDS`, no more than `BYTES` of memory. All of it, with the seed that was drawn:

    python -m tests.frontend.fuzz --cases 20000 [--seed N]
"""

from __future__ import annotations

import argparse
import random
import re
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.extra.lark import from_lark

from dlc.frontend.elaborate.check import check_program
from dlc.frontend.elaborate.modules import read_program
from dlc.frontend.text.by_lark import build_parser
from dlc.ir.diagnostics import UserError

ROOT = Path(__file__).parents[2]
SECONDS = 5.0  # of the processor
BYTES = 500 << 20
PIECES = [
    b"(", b")", b"[", b"]", b"{", b"}", b"\n", b"\r\n", b'"', b'"""', b"#", b"=", b":=", b"->",
    b",", b"::", b"*", b"**", b"@", b"//", b"|>", b".", b"...", b"-", b"0", b"1e400", b"1.5",
    b"9223372036854775808", b"N", b"*S", b"f32", b"f32[N]", b"int", b"fn ", b"step ", b"model ",
    b"param ", b"state ", b"return ", b"if ", b"else ", b"for ", b"scan ", b"while ", b"carry ",
    b"yield ", b"minimize ", b"with ", b"import ", b"const ", b"true", b"None", b"inf", b"nan",
    b"\xff", b"\xc3\xa9", b"\0", b"\t", b"\xef\xbb\xbf", b"_", b"as ", b"where ", b"on ", b"grad(",
]  # fmt: skip


KINDS = [re.compile(kind) for kind in (rb"\b[A-Za-z_]\w*", rb"\b\d[\d.]*", rb" [-+*/%@<>=]+ ")]
NUMBERS = [b"0", b"1", b"2", b"7", b"-1", b"0.0", b"2.5", b"1e30", b"300", b"4294967296", b"K"]
OPERATORS = [b" + ", b" - ", b" * ", b" / ", b" // ", b" % ", b" @ ", b" ** ", b" < ", b" == ",
             b" and ", b" or ", b" |> ", b" := ", b" += ", b" = "]


class TooLong(BaseException):
    """A program took longer than `SECONDS`."""


def seeds() -> list[bytes]:
    """The valid programs of the repository, and the bad ones of tests/errors."""
    files = sorted(path for path in ROOT.rglob("*.dl") if "build" not in path.parts)
    return [path.read_bytes() for path in files]


def mutations(count: int, number: int) -> Iterator[bytes]:
    """Valid files with some bytes changed; small ones more often than large ones."""
    draw = random.Random(number)
    texts = seeds()
    weights = [1 / (200 + len(text)) for text in texts]
    for _ in range(count):
        text = draw.choices(texts, weights)[0]
        change = draw.choice((_mutated, _exchanged, _exchanged))
        for _ in range(draw.choice((1, 1, 1, 2, 4, 8))):
            text = change(draw, text)
        yield text


def _exchanged(draw: random.Random, text: bytes) -> bytes:
    """A word, a number or an operator gives way to another of its kind: most of what comes of it
    can be parsed."""
    kind = draw.choice(KINDS)
    found = list(kind.finditer(text))
    if not found:
        return text
    old, new = draw.choice(found), draw.choice(found).group()
    if kind is not KINDS[0] and draw.random() < 0.5:
        new = draw.choice(NUMBERS if kind is KINDS[1] else OPERATORS)
    return text[: old.start()] + new + text[old.end() :]


def _mutated(draw: random.Random, text: bytes) -> bytes:
    start = draw.randrange(len(text) + 1)
    end = min(len(text), start + draw.choice((1, 1, 2, 5, 20, 100)))
    match draw.randrange(5):
        case 0:
            return text[:start] + text[end:]
        case 1:
            return text[:start] + draw.choice(PIECES) + text[start:]
        case 2:
            return text[:start] + draw.choice(PIECES) + text[end:]
        case 3:
            return text[:start] + text[start:end] * draw.choice((2, 3, 50)) + text[end:]
        case _:
            return text[:start] + bytes([draw.randrange(256)]) + text[end:]


def from_grammar(count: int, number: int, use: Callable[[bytes], None]) -> None:
    """Gives `use` programs that hypothesis makes from grammar.lark."""

    @seed(number)
    @settings(
        max_examples=count, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(from_lark(build_parser(), start="file"))
    def run(text: str) -> None:
        use(text.encode())

    run()


class Checker:
    """Checks programs, and keeps those that break the rules, with what happened."""

    def __init__(self, told: bool = False) -> None:
        self.told = told  # whether each is printed as it is found
        self.count = 0
        self.accepted = 0
        self.slowest = 0.0
        self.largest = 0  # bytes by which a check made the process larger than it ever was
        self.broken: list[tuple[bytes, str]] = []
        self._folder = tempfile.TemporaryDirectory(prefix="dlc-fuzz-")
        self._path = Path(self._folder.name) / "program.dl"

    def check(self, data: bytes) -> None:
        """One program."""
        self.count += 1
        self._path.write_bytes(data)
        signal.signal(signal.SIGVTALRM, _stop)
        signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS, 0.1)  # again, if a callback swallows it
        held, start = self._held(), time.process_time()
        try:
            check_program(read_program(self._path, "program.dl"))
            self.accepted += 1
        except UserError as error:
            str(error)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            self.broken.append((data, f"{type(error).__name__}: {error}"[:500]))
            if self.told:
                print(f"\n{self.broken[-1][1]}\n{data[:2000]!r}", flush=True)
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        self.slowest = max(self.slowest, time.process_time() - start)
        self.largest = max(self.largest, self._held() - held)
        if self.told and self.count % 1000 == 0:
            print(self, flush=True)

    def __str__(self) -> str:
        return (f"{self.count} programs, {self.accepted} of them well, {len(self.broken)} broke a "
                f"rule; slowest {self.slowest:.2f} s, memory {self.largest >> 20} MiB")

    def _held(self) -> int:
        """The most that this process has held, in bytes; hypothesis keeps a part of it."""
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _stop(number: int, frame: FrameType | None) -> None:
    raise TooLong(f"more than {SECONDS} s")


def run(cases: int, number: int, told: bool = False) -> Checker:
    """One case in five from the grammar (they take long to make), the others are mutations."""
    checker = Checker(told)
    from_grammar(cases // 5, number, checker.check)
    for data in mutations(cases - checker.count, number):
        checker.check(data)
    return checker


def main() -> int:
    """Runs as many cases as are asked for; 1 if one breaks a rule."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    checker = run(options.cases, options.seed, told=True)
    print(checker)
    return 1 if checker.broken or checker.largest > BYTES else 0


if __name__ == "__main__":
    sys.exit(main())
