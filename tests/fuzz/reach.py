# SPDX-License-Identifier: Apache-2.0
"""Which steps from line to line an input makes the code under test take."""

import sys
import types
import typing as ty

from tests.fuzz import targets

Arc: ty.TypeAlias = tuple[str, int, int]


def arcs_of(target: targets.Target, data: bytes) -> frozenset[Arc]:
    """File, and the numbers of one line and the next, of all that ``data`` reaches."""
    found: set[Arc] = set()

    def trace(frame: types.FrameType, event: str, _argument: object) -> ty.Any:
        name = frame.f_code.co_filename
        if "/rbd_worker/" not in name and "/rpcapi/" not in name:
            return None
        last = 0

        def lines(frame: types.FrameType, event: str, _argument: object) -> ty.Any:
            nonlocal last
            if event == "line":
                found.add((name, last, frame.f_lineno))
                last = frame.f_lineno
            return lines
        return lines
    sys.settrace(trace)
    try:
        target.one(data)
    finally:
        sys.settrace(None)
    return frozenset(found)


def smallest_with_the_same_reach(target: targets.Target, inputs: ty.Iterable[bytes],
                                 known: ty.Iterable[bytes]) -> list[bytes]:
    """Those of ``inputs`` that reach something that ``known`` and smaller ones do not."""
    reached: set[Arc] = set()
    for data in known:
        reached |= arcs_of(target, data)
    kept = []
    for data in sorted(set(inputs), key=lambda each: (len(each), each)):
        arcs = arcs_of(target, data)
        if not arcs <= reached:
            reached |= arcs
            kept.append(data)
    return kept
