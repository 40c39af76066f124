"""What does merging three teachers cost beside reading them, and how much memory does it take?

Writes caches of made-up distributions with the real writer, a small one and one ten times as large;
times reading, merging and both on one core; merges each cache by the command in a process of its
own. Prints two tables.

    python -m tests.benchmarks.merging [--shards 4] [--factor 10]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from tests.benchmarks.made_up_cache import TEACHERS, write_cache
from tests.benchmarks.processes import Usage, run_measured

from ckd_cache.format.reader import open_cache
from ckd_cache.merge.merge import merge_voices
from ckd_cache.merge.reading import merge_range, read_voices
from ckd_cache.merge.rule import TargetRule
from ckd_cache.merge.source import MergeSource, chunk_ranges, merge_source

MAX_NATS = 1e-4
READ = "read three teachers"


def rule(weighting: str = "gold", missing: str = "bucket") -> TargetRule:
    """A rule for the three teachers at k = 32."""
    return TargetRule(
        weighting=weighting, missing=missing, tau=1.0, temperature=1.0, top_k=32, teachers=TEACHERS
    )


RULES = {
    "gold": rule(),
    "gold, spread": rule(missing="spread"),
    "entropy": rule("entropy"),
    "segment_entropy": rule("segment_entropy"),
}


def speeds(cache: Path, turns: int = 7) -> dict[str, float]:
    """Slots a second of CPU time on one core: reading, merging what was read, and both.

    Of every chunk the best of some turns counts, as other work on the machine disturbs some.
    """
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    source = merge_source(open_cache(cache), "text", TEACHERS)
    ranges = chunk_ranges(source.reader, 0, source.reader.n_examples)
    ways: dict[str, Callable[[tuple[int, int]], Callable[[], object]]] = {
        READ: partial(_reading, source)
    }
    for name, how in RULES.items():
        ways[f"merge what was read, {name}"] = partial(_merging, source, how)
    ways["read and merge, gold"] = partial(_whole, source, rule())
    seconds = dict.fromkeys(ways, 0.0)
    for one in ranges:
        works = {name: way(one) for name, way in ways.items()}
        for name, spent in _best(works, turns).items():
            seconds[name] += spent
    return {name: source.reader.n_slots / spent for name, spent in seconds.items()}


def _best(works: dict[str, Callable[[], object]], turns: int) -> dict[str, float]:
    """The least seconds of each, one after the other in every turn."""
    best = dict.fromkeys(works, float("inf"))
    for _ in range(turns):
        for name, work in works.items():
            begin = time.process_time()
            work()
            best[name] = min(best[name], time.process_time() - begin)
    return best


def _reading(source: MergeSource, examples: tuple[int, int]) -> Callable[[], object]:
    return lambda: [source.reader.teachers[name].read(*examples) for name in source.names]


def _merging(
    source: MergeSource, how: TargetRule, examples: tuple[int, int]
) -> Callable[[], object]:
    slots, voices = read_voices(source, how, *examples)
    return lambda: merge_voices(slots, voices, how, source.support_size, MAX_NATS)


def _whole(source: MergeSource, how: TargetRule, examples: tuple[int, int]) -> Callable[[], object]:
    return lambda: merge_range(source, how, *examples, MAX_NATS)


def merged(cache: Path, threads: int) -> Usage:
    """Merge a cache by the command, in a process of its own."""
    more = ("--name", "measured", "--threads", str(threads))
    return run_measured("merge", str(cache), *more)


def speed_table(found: dict[str, float]) -> list[str]:
    """A line a way."""
    lines = [
        "| on one core, k = 32 | million slots/s | of the time of reading |",
        "| --- | --- | --- |",
    ]
    for name, speed in found.items():
        lines.append(f"| {name} | {speed / 1e6:.3f} | {found[READ] / speed:.2f} |")
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--factor", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        small, large = Path(name) / "small.ckd", Path(name) / "large.ckd"
        slots = {
            "1×": write_cache(small, options.shards),
            f"{options.factor}×": write_cache(large, options.shards * options.factor),
        }
        lines = [*speed_table(speeds(small)), ""]
        lines += [
            "| cache | slots | seconds | CPU seconds | peak resident MiB |",
            "| --- " * 5 + "|",
        ]
        for (label, count), cache in zip(slots.items(), (small, large), strict=True):
            used = merged(cache, options.threads)
            lines.append(
                f"| {label} | {count:,} | {used.seconds:.1f} | {used.cpu_seconds:.1f} |"
                f" {used.peak_mib:,.0f} |"
            )
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
