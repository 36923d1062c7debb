# SPDX-License-Identifier: Apache-2.0
"""Where inputs are kept.

``tests/fuzz/corpus/TARGET`` is part of the source: few, small, and each of them
reaches something that the others do not, or once broke a promise (``found-*``).
``build/fuzz/TARGET`` is this machine's: what a campaign found is there when
the next one begins.
"""

import hashlib
import pathlib

from tests.fuzz import targets

_HERE = pathlib.Path(__file__).parent
COMMITTED = _HERE / "corpus"
BUILD = _HERE.parents[1] / "build" / "fuzz"
#: Of one target, in the source: the smallest ones first.
MOST_INPUTS = 80
MOST_BYTES = 1 << 16


def committed(name: str) -> dict[str, bytes]:
    """File name to content of what the source has for a target."""
    return {path.name: path.read_bytes() for path in sorted((COMMITTED / name).glob("*"))}


def working(name: str) -> pathlib.Path:
    """The directory that a campaign reads and adds to."""
    return _made(BUILD / name / "corpus")


def found(name: str) -> pathlib.Path:
    """Where inputs that break a promise are put."""
    return _made(BUILD / name / "found")


def fill(name: str, target: targets.Target) -> None:
    """The working corpus has the seeds and all that the source has."""
    for content in (*target.seeds, *committed(name).values()):
        (working(name) / hashlib.sha1(content).hexdigest()).write_bytes(content)


def write_dictionary(name: str, target: targets.Target) -> pathlib.Path:
    """The target's words in libFuzzer's form."""
    path = BUILD / name / "words"
    path.write_text("".join(
        '"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n' for word in target.words))
    return path


def take_over(name: str, inputs: list[bytes]) -> int:
    """The smallest of ``inputs`` become the source's corpus; how many inputs it has."""
    place = _made(COMMITTED / name)
    for path in place.glob("*"):
        if not path.name.startswith("found-"):
            path.unlink()
    room = MOST_BYTES
    for content in sorted(inputs, key=len)[:MOST_INPUTS]:
        room -= len(content)
        if room >= 0:
            (place / hashlib.sha1(content).hexdigest()[:16]).write_bytes(content)
    return len(list(place.iterdir()))


def _made(path: pathlib.Path) -> pathlib.Path:
    path.mkdir(parents=True, exist_ok=True)
    return path
