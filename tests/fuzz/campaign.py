# SPDX-License-Identifier: Apache-2.0
"""One target being fuzzed in a process of its own, and what is remembered of it."""

import collections
import dataclasses
import json
import re
import subprocess
import sys
import time
import typing as ty

from tests.fuzz import corpus, reach, targets

#: Seconds of one input, and MiB of the process, that count as a defect.
TIMEOUT, MEMORY = 10, 1024
#: Of libFuzzer's output, kept to be shown when an input breaks something.
_LAST_LINES = 40
_STATUS = re.compile(r"#(\d+)\s+\S+\s+(?:cov: (\d+) ft: (\d+) corp: (\d+)/)?")
_DONE = re.compile(r"stat::number_of_executed_units:\s*(\d+)")


@dataclasses.dataclass
class Progress:
    """:ivar covered, features, inputs: libFuzzer's ``cov``, ``ft`` and size of the corpus."""

    runs: int = 0
    covered: int = 0
    features: int = 0
    inputs: int = 0
    began: float = dataclasses.field(default_factory=time.monotonic)
    ended: float | None = None

    @property
    def seconds(self) -> float:
        return (self.ended or time.monotonic()) - self.began

    @property
    def rate(self) -> float:
        return self.runs / max(self.seconds, 0.001)


class Campaign:
    """Runs until its end or until an input breaks a promise.

    :param seconds, runs: when to end, whichever comes first; 0 for no such end.
    """

    def __init__(self, name: str, seconds: int, runs: int) -> None:
        target = targets.load(name)
        corpus.fill(name, target)
        self.name = name
        self.progress = Progress()
        self.last_lines: collections.deque[str] = collections.deque(maxlen=_LAST_LINES)
        self._before = set(corpus.found(name).iterdir())
        options = [f"-max_total_time={seconds}", f"-runs={runs or -1}", f"-timeout={TIMEOUT}",
                   f"-rss_limit_mb={MEMORY}", f"-max_len={target.max_len}",
                   f"-dict={corpus.write_dictionary(name, target)}", "-print_final_stats=1",
                   f"-artifact_prefix={corpus.found(name)}/"]
        self._process = _started(name, [*options, str(corpus.working(name))])

    def follow(self) -> bool:
        """Read what it says until it ends; whether every promise held. For a thread."""
        for line in ty.cast(ty.IO[str], self._process.stdout):
            self._read(line.rstrip())
        status = self._process.wait()
        self.progress.ended = time.monotonic()
        _remember(self.name, self.progress)
        return status == 0

    def stop(self) -> None:
        self._process.terminate()

    def broken_by(self) -> list[str]:
        """Files with the inputs that broke something in this campaign."""
        return sorted(str(path) for path in set(corpus.found(self.name).iterdir()) - self._before)

    def _read(self, line: str) -> None:
        self.last_lines.append(line)
        if match := _DONE.match(line):
            self.progress.runs = int(match[1])
        elif match := _STATUS.match(line):
            self.progress.runs = int(match[1])
            if match[2]:
                self.progress.covered, self.progress.features, self.progress.inputs = map(
                    int, match.groups()[1:])


def minimise(name: str) -> int:
    """Keep in the source what reaches something that no seed does; how many inputs that are."""
    target = targets.load(name)
    found = [path.read_bytes() for path in corpus.working(name).iterdir()]
    return corpus.take_over(name, reach.smallest_with_the_same_reach(target, found, target.seeds))


def history() -> dict[str, list[dict[str, ty.Any]]]:
    """Every campaign of this machine, by target."""
    found: dict[str, list[dict[str, ty.Any]]] = {}
    for name in targets.NAMES:
        path = corpus.BUILD / name / "history.jsonl"
        if path.exists():
            found[name] = [json.loads(line) for line in path.read_text().splitlines()]
    return found


def _remember(name: str, progress: Progress) -> None:
    with (corpus.BUILD / name / "history.jsonl").open("a") as file:
        file.write(json.dumps({
            "runs": progress.runs, "seconds": round(progress.seconds, 1),
            "covered": progress.covered, "features": progress.features,
            "inputs": progress.inputs}) + "\n")


def _started(name: str, options: list[str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "tests.fuzz.process", name, "--", *options],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
