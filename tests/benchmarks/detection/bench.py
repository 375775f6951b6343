"""What the parts of the benchmark share: data, seeds, and a cache that makes a run that was broken off go on.

The cache is keyed by all that a figure depends on: the code of model, training and benchmark, the versions of the libraries
that compute, the data files, and the part's own configuration. The code is taken as a whole: an edit somewhere in it computes
anew what it may have changed, and never leaves a figure that it did change.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.benchmarks.goals import Goals

_ROOT = Path(__file__).parents[3]
_CODE = ("monitor/model/*.py", "training/*.py", "training/detectors/*.py", "tests/benchmarks/detection/*.py")
_LIBRARIES = ("tensorflow", "keras", "numpy", "scikit-learn")

# By name of a detector, by name of a figure.
Measured = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Part:
    """What a part of the benchmark ends with.

    Attributes:
        figures: for the last line, as fractions.
        goals: of some of them.
    """

    figures: Mapping[str, float]
    goals: Goals


@dataclass(frozen=True)
class Bench:
    """One run of the benchmark.

    Attributes:
        data: the folder of data sets.
        most_seeds: seeds that a part uses at most.
        is_quick: the short run.
        cache: folder of finished figures; None computes everything.
    """

    data: Path
    most_seeds: int = 10
    is_quick: bool = False
    cache: Path | None = None

    def seeds(self, wanted: int, *, quick: int = 1) -> range:
        """The seeds of a part that wants that many, and `quick` ones in a short run."""
        return range(min(quick if self.is_quick else wanted, self.most_seeds))

    def measure(self, part: str, data_files: str, key: Mapping[str, Any], compute: Callable[[], Measured]) -> Measured:
        """Figures of one (part, set, options, seed), computed at most once.

        Args:
            part: `__file__` of the part.
            data_files: glob pattern below the folder of data sets.
            key: everything else that they depend on.
            compute: makes them.
        """
        name = f"{Path(part).stem} {data_files} {' '.join(f'{word}={value}' for word, value in key.items())}"
        started = time.perf_counter()
        whole = {
            "name": name,
            "code": digest_files(_ROOT, *_CODE),
            "libraries": {library: version(library) for library in _LIBRARIES},
            "data": digest_files(self.data, data_files),
        }
        measured = cached(self.cache, whole, compute)
        say(f"{name[:150]}: {time.perf_counter() - started:.0f} s")
        return measured


def cached(folder: Path | None, key: Mapping[str, Any], compute: Callable[[], Measured]) -> Measured:
    """Reads what was computed for this key, else computes and keeps it; without a folder it always computes."""
    if folder is None:
        return compute()
    content = json.dumps(key, sort_keys=True, default=str)
    path = folder / f"{hashlib.sha256(content.encode()).hexdigest()[:32]}.json"
    if path.exists():
        found: Measured = json.loads(path.read_text())["measured"]
        return found
    measured = compute()
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    unfinished.write_text(json.dumps({"key": key, "measured": measured}, default=str, indent=1))
    unfinished.rename(path)
    return measured


@cache
def digest_files(folder: Path, *patterns: str) -> str:
    """SHA-256 of the files that match, by name and content; read once in a process, as its code is."""
    paths = sorted(path for pattern in patterns for path in folder.glob(pattern))
    contents = {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    return hashlib.sha256(json.dumps(contents).encode()).hexdigest()


def say(sentence: str) -> None:
    """Progress of the run; standard output is for the tables."""
    print(sentence, file=sys.stderr, flush=True)
