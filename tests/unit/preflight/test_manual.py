# SPDX-License-Identifier: Apache-2.0
"""The manual has a paragraph for each row that preflight can tell, and for no other."""

import pathlib
import re

from rbd_worker import preflight
from rbd_worker.preflight import comparisons, survey

SOURCES = pathlib.Path(preflight.__file__).parent
PAGE = pathlib.Path(__file__).parents[3] / "doc/preflight.md"
#: Rows that no table has: made where they are measured.
_MADE = re.compile(r"\b(?:Say|Try)\(\s*\"([a-z.-]+)\"")


def told() -> set[str]:
    names = {one.name for one in (*survey.CHECKS, *comparisons.COMPARISONS)}
    for source in SOURCES.glob("*.py"):
        names.update(_MADE.findall(source.read_text()))
    return names


def test_each_row_has_its_paragraph() -> None:
    described = re.findall(r"\*\*`([^`]+)`\*\*", PAGE.read_text())
    assert len(described) == len(set(described))
    assert set(described) == told()


def test_rows_outside_of_the_tables_are_found() -> None:
    assert {"worker.peer", "clock", "route.name", "route.data-port", "libvirt.listener",
            "ceph.fsid"} <= told()
