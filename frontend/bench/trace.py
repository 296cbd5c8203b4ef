"""One call as a Chrome trace: https://ui.perfetto.dev and chrome://tracing show it.

A launch is an event of the thread that called; chunks that were shared out are events of the
threads that ran them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dlc.compiler.llvm.timed import EVENT, WHOLE
from dlc.frontend.bench.measure import Times
from dlc.frontend.bench.rows import Profile, Site

Json = dict[str, object]


def chrome_trace(name: str, profile: Profile, times: Times) -> Json:
    """The JSON object of a trace: times in µs from the first launch on."""
    records = [dict(zip(EVENT, map(int, event), strict=True)) for event in times.events]
    records.sort(key=lambda r: (r["begin"], -r["end"]))
    threads = _threads(records)
    start = records[0]["begin"] if records else 0
    events = [_event(record, threads, start, profile.sites) for record in records]
    return {"traceEvents": [*_names(name, threads), *events], "displayTimeUnit": "ns",
            "otherData": {"function": name, "lost": times.lost}}


def _threads(records: Sequence[Mapping[str, int]]) -> dict[int, int]:
    """Numbers of threads: the caller is 0."""
    whole = [r["thread"] for r in records if r["chunk"] == WHOLE]
    chunks = [r["thread"] for r in records]
    return {thread: number for number, thread in enumerate(dict.fromkeys((*whole, *chunks)))}


def _names(name: str, threads: Mapping[int, int]) -> list[Json]:
    """What the threads and the process are called."""
    told: list[Json] = [{"name": "process_name", "ph": "M", "pid": 1, "tid": 0,
                         "args": {"name": name}}]
    return told + [
        {"name": "thread_name", "ph": "M", "pid": 1, "tid": number,
         "args": {"name": f"worker {number}" if number else "caller"}}
        for number in threads.values()]


def _event(
    record: Mapping[str, int], threads: Mapping[int, int], start: int, sites: Sequence[Site]
) -> Json:
    site = sites[record["launch"]]
    whole = record["chunk"] == WHOLE
    ns = record["end"] - record["begin"]
    args: Json = {"launch": record["launch"]}
    if whole:
        args |= {"lines": list(site.lines), "sizes": dict(site.sizes), "chunks": site.chunks,
                 "operations": site.work.operations, "bytes": site.work.moved,
                 "buffers": list(site.launch.buffers)}
    else:
        args["chunk"] = record["chunk"]
    return {"name": site.launch.kernel, "cat": "launch" if whole else "chunk", "ph": "X", "pid": 1,
            "tid": threads[record["thread"]], "ts": (record["begin"] - start) / 1e3,
            "dur": ns / 1e3, "args": args}
