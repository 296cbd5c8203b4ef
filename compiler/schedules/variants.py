"""Schedules of a kernel for all sizes that are likely: as few as do, and which of them when.

A schedule is searched at a few sizes of the symbols: around the batch that the program says, or
from small to large where it says nothing. The model tells the cycles of each that was found at all
of these sizes. Taken are the fewest among which there is one that is good enough everywhere. What
parts the sizes of one from those of another are comparisons, found as a decision tree is:

    product of M x K and K x N:  tiles of 128 x 128 where M*N >= 2097152, of 64 x 64 where
                                 M*N >= 524288, …; of 8 x 16, whose sums 32 threads share, elsewhere

What is said counts as much as all the rest: it is what the program will be run with.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import reduce
from itertools import combinations, pairwise, product
from math import ceil, fsum, log, sqrt
from operator import or_

from dlc.compiler.options import Options
from dlc.compiler.schedules.gpu_cycles import Cycles
from dlc.compiler.schedules.rows import row_of
from dlc.ir.dataclass import dataclass
from dlc.ir.dims import Dim, at_least, evaluate, symbol, symbols
from dlc.ir.dims import product as product_of_dims
from dlc.ir.kernel import Access, Compute, Kernel, computes
from dlc.ir.program import Comparison, Launch
from dlc.ir.schedule import Schedule

Sizes = dict[str, int]
Choice = tuple[Kernel, Schedule]
SIZES = tuple(16 << n for n in range(10))  # of a symbol of which nothing is said
LENGTHS = (*SIZES, 16384, 32768, 65536, 131072)  # of one that rows are as long as
BATCHES = (1, 2, 4, 8, 16)  # times the size that is said; and one alone
MOST_SIZES = 256  # at which schedules are compared
MOST_SEARCHES = 16  # at which one is searched
MOST = 5  # schedules of a kernel
TRIED = 12  # of those that were found
GOOD = 1.3  # times the cycles of the best is good enough
TOGETHER = 4  # times as much matter sizes at which all symbols are large, or small
LAUNCH = 2500  # cycles of every launch, whatever it does
DEPTH = 4  # comparisons one after another
DEPTH_OF_ROWS = 5


@dataclass(frozen=True, slots=True)
class Case:
    """A schedule, with its form of the kernel, and where it is the one: at sizes of which all of
    `where` holds, and of which no case before is."""

    kernel: Kernel
    schedule: Schedule
    where: tuple[Comparison, ...]


def cases(
    kernel: Kernel, launches: Sequence[Launch], options: Options, search: Callable[[Sizes], Choice]
) -> list[Case]:
    """The cases of a kernel, of which the last one has no conditions. `search` finds the best
    choice at some sizes."""
    found: dict[Choice, None] = {}
    if not any(c.over for c in computes(kernel.body)):  # elementwise: all do nearly as well
        return [Case(*search(likely(kernel, launches, options)), ())]
    for sizes in _sizes(kernel, launches, options, MOST_SEARCHES):
        found.setdefault(search(sizes))
    choices = list(found)
    if len(choices) == 1:
        return [Case(*choices[0], ())]
    everywhere = _sizes(kernel, launches, options, MOST_SIZES)
    said, together = _said(kernel, launches, options), _sizes(kernel, launches, options, 1)
    weights = [len(everywhere) if sizes in said else TOGETHER if sizes in together else 1
               for sizes in everywhere]
    costs = _costs(choices, everywhere, weights, options)
    most = MOST if _lengths(kernel) else min(len(kernel.symbols) + 2, MOST)
    few = _fewest(costs, 1 if _has_one(kernel, choices) else most)
    tree = _Tree(kernel, everywhere, costs.of(few))
    return _joined([Case(*choices[few[at]], where) for at, where in tree.cases()])


def _joined(found: Sequence[Case]) -> list[Case]:
    """Without cases after which the same is the one at all of their sizes, and more."""
    return [case for case, after in zip(found, [*found[1:], None], strict=True)
            if after is None or (case.kernel, case.schedule) != (after.kernel, after.schedule)
            or not all(_follows(told, case.where) for told in after.where)]


def _follows(told: Comparison, where: tuple[Comparison, ...]) -> bool:
    """Whether a lower bound holds where others do."""
    return any(c.left == told.left and at_least(c.right - told.right, 0) for c in where)


def likely(kernel: Kernel, launches: Sequence[Launch], options: Options) -> Sizes:
    """The likely sizes of the first launch."""
    dims = launches[0].dims if launches else tuple(map(symbol, kernel.symbols))
    return {name: options.likely(dim) for name, dim in zip(kernel.symbols, dims, strict=True)}


def _has_one(kernel: Kernel, choices: Sequence[Choice]) -> bool:
    """Whether a kernel gets no variants: what is likely to be launched beside others, as sums down
    columns and what has the same places at all sizes (gradients of weights), for that is worth
    more; and chains of products, whose text is long. Rows of one kernel may be short and long."""
    found = [schedule for _, schedule in choices]
    in_columns = any(s.beside for s in found) and not any(s.held for s in found)
    return not symbols(_places(kernel)) or in_columns or any(s.part for s in found)


def _sizes(kernel: Kernel, launches: Sequence[Launch], options: Options, most: int) -> list[Sizes]:
    """About `most` sizes of a kernel's symbols at its launches; the likely ones first."""
    given = list(dict.fromkeys(launch.dims for launch in launches))
    lengths = _lengths(kernel)
    found: dict[tuple[int, ...], None] = {}
    for dims in given or [tuple(map(symbol, kernel.symbols))]:
        names = sorted({name for dim in dims for name in symbols(dim)})
        long = {name for at, dim in zip(kernel.symbols, dims, strict=True) if at in lengths
                for name in symbols(dim)}
        for known in sizes_of_symbols(names, options, most // max(1, len(given)), long):
            found[tuple(max(1, evaluate(dim, known)) for dim in dims)] = None
    return [dict(zip(kernel.symbols, each, strict=True)) for each in found]


def sizes_of_symbols(
    names: Sequence[str], options: Options, most: int, lengths: Collection[str] = ()
) -> Iterator[Sizes]:
    """About `most` likely sizes of symbols, of which some are lengths of rows."""
    levels = [_levels(name, LENGTHS if name in lengths else SIZES, options) for name in names]
    for values in _values(levels, most):
        yield dict(zip(names, values, strict=True))


def _said(kernel: Kernel, launches: Sequence[Launch], options: Options) -> list[Sizes]:
    """The sizes of launches all of whose symbols the program says a likely size of."""
    return [{name: options.likely(dim) for name, dim in zip(kernel.symbols, dims, strict=True)}
            for dims in dict.fromkeys(launch.dims for launch in launches)
            if all(name in options.hints for dim in dims for name in symbols(dim))]


def _lengths(kernel: Kernel) -> frozenset[str]:
    """The symbols that the rows of a kernel are as long as, if it goes along rows."""
    row = row_of(kernel, [c for c in kernel.body if isinstance(c, Compute)]) or ()
    return frozenset(n for i in row for n in symbols(i.high))  # type: ignore[arg-type]


def _levels(name: str, sizes: Sequence[int], options: Options) -> list[int]:
    """From small to large, the sizes of a symbol that are likely; `sizes` if nothing is said."""
    hint = options.hints.get(name)
    return list(sizes) if hint is None else sorted({1, *(hint * n for n in BATCHES)})


def _values(levels: Sequence[Sequence[int]], most: int) -> Iterator[tuple[int, ...]]:
    """Sizes of some symbols: all that grow together, and about `most` more of each with each."""
    count = max(map(len, levels), default=1)
    yield from zip(*(_spread(each, count) for each in levels), strict=True)
    each = 1
    while (each + 1) ** len(levels) <= most and each < count:
        each += 1
    yield from product(*(_spread(some, min(each, len(some))) for some in levels))


def _spread(levels: Sequence[int], count: int) -> list[int]:
    """So many of them, from the first to the last."""
    return [levels[at * (len(levels) - 1) // max(1, count - 1)] for at in range(count)]


@dataclass(frozen=True, slots=True)
class _Costs:
    """How many times the cycles of the best one each choice takes, at each of the sizes; and how
    much that matters: what takes longer matters more."""

    times: tuple[tuple[float, ...], ...]
    weights: tuple[float, ...]

    def excess(self, choice: int, at: int) -> float:
        """By how much a choice is not the best at one of the sizes."""
        distance: float = log(self.times[choice][at])
        return self.weights[at] * distance * distance

    def of(self, few: Sequence[int]) -> _Costs:
        """Those of a few choices."""
        return _Costs(tuple(self.times[one] for one in few), self.weights)


def _costs(
    choices: Sequence[Choice], everywhere: Sequence[Sizes], weights: Sequence[int],
    options: Options,
) -> _Costs:
    """The costs of choices by the model."""
    costs: list[list[float]] = []
    models: dict[Kernel, list[Cycles]] = {}
    for kernel, schedule in choices:
        if kernel not in models:
            first = Cycles(kernel, everywhere[0], options)
            models[kernel] = [first, *(first.at(sizes) for sizes in everywhere[1:])]
        costs.append([model.of(schedule) + LAUNCH for model in models[kernel]])
    best = [min(column) for column in zip(*costs, strict=True)]
    times = tuple(tuple(c / b for c, b in zip(cost, best, strict=True)) for cost in costs)
    return _Costs(times, tuple(
        weight * log(b / LAUNCH) ** 2 for b, weight in zip(best, weights, strict=True)))


def _fewest(costs: _Costs, most: int) -> tuple[int, ...]:
    """The fewest choices of which one is good enough at each of the sizes; `most` if so many don't
    do."""
    sizes, choices = range(len(costs.weights)), range(len(costs.times))
    good = [sum(1 << at for at in sizes if times[at] <= GOOD) for times in costs.times]
    excess = [[costs.excess(choice, at) for at in sizes] for choice in choices]

    def total(few: tuple[int, ...]) -> float:
        return fsum(min(each) for each in zip(*(excess[choice] for choice in few), strict=True))

    some: tuple[int, ...] = ()  # what helps most beside those before
    while len(some) < min(TRIED, len(choices)):
        some = min(((*some, choice) for choice in choices if choice not in some), key=total)
    for count in range(1, most + 1):
        enough = [few for few in combinations(some, count) if reduce(
            or_, (good[choice] for choice in few)).bit_count() == len(sizes)]
        if enough or count >= min(most, len(some)):
            return min(enough or combinations(some, count), key=total)
    raise AssertionError("there is a last count")


class _Tree:
    """Parts sizes by comparisons, until one choice is good enough for each part."""

    def __init__(self, kernel: Kernel, everywhere: Sequence[Sizes], costs: _Costs) -> None:
        self.times = costs.times
        self.excess = [[costs.excess(choice, at) for at in range(len(everywhere))]
                       for choice in range(len(costs.times))]
        self.values = [(dim, [evaluate(dim, sizes) for sizes in everywhere])
                       for dim in _compared(kernel)]
        self.lengths = {symbol(name) for name in _lengths(kernel)}
        self.all = tuple(range(len(everywhere)))

    def cases(self) -> list[tuple[int, tuple[Comparison, ...]]]:
        """The choice of each part, in the order in which comparisons find them."""
        return self._part(self.all, DEPTH_OF_ROWS if self.lengths else DEPTH)

    def _part(
        self, here: tuple[int, ...], depth: int
    ) -> list[tuple[int, tuple[Comparison, ...]]]:
        best, excess = self._best(here)
        if depth == 0 or all(self.times[best][at] <= GOOD for at in here):
            return [(best, ())]
        splits = [split for dim, values in self.values for split in self._splits(here, dim, values)]
        least = min(splits, key=lambda s: s[0], default=None)
        if least is None or least[0] >= excess:
            return [(best, ())]
        _, told, above, below = least
        first, second = self._part(above, depth - 1), self._part(below, depth - 1)
        if len(second) == len(first) == 1 and first[0][0] == second[0][0]:
            return first
        return [*((at, _both(told, where)) for at, where in first), *second]

    def _best(self, here: tuple[int, ...]) -> tuple[int, float]:
        """The choice that is best for a part on the whole, and by how much it is not everywhere."""
        totals = [sum(excess[at] for at in here) for excess in self.excess]
        best = min(range(len(totals)), key=totals.__getitem__)
        return best, totals[best]

    def _splits(
        self, here: tuple[int, ...], dim: Dim, values: Sequence[int]
    ) -> list[tuple[float, Comparison, tuple[int, ...], tuple[int, ...]]]:
        """Where a dim may part these sizes, and what is left to wish for then."""
        found = []
        known = sorted({values[at] for at in here})
        for low, high in pairwise(known):
            above = tuple(at for at in here if values[at] >= high)
            below = tuple(at for at in here if values[at] <= low)
            excess = self._best(above)[1] + self._best(below)[1]
            # What is good for a row may hold no longer one.
            least = low + 1 if dim in self.lengths else _between(low, high)
            found.append((excess, Comparison(dim, ">=", least), above, below))
        return found


def _both(told: Comparison, where: tuple[Comparison, ...]) -> tuple[Comparison, ...]:
    """What holds if all does; a lower bound of what has a higher one says nothing."""
    return where if any(c.left == told.left for c in where) else (told, *where)


def _between(low: int, high: int) -> int:
    """From where on a size is rather the higher one: a power of two, if one lies between."""
    middle = sqrt(max(low, 1) * high)
    powers = [1 << n for n in range(low.bit_length(), high.bit_length()) if 1 << n > low]
    return min(powers, key=lambda p: abs(log(p / middle)), default=ceil(middle))


def _compared(kernel: Kernel) -> list[Dim]:
    """What sizes are compared by: each symbol, and how many places there are."""
    found: list[Dim] = [symbol(name) for name in kernel.symbols]
    return found if len(found) < 2 else [*found, _places(kernel)]


def _places(kernel: Kernel) -> Dim:
    """How many places the outer indices have."""
    return product_of_dims(tuple(
        i.high for i in kernel.outer if not isinstance(i.high, Access)))
