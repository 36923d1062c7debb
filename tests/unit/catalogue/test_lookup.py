# SPDX-License-Identifier: Apache-2.0
"""Every message is found by its own words and by no others; every error of ours has its page."""

import collections
import re

import pytest

from rbd_worker import errors
from rbd_worker.catalogue import lookup, own_messages
from rbd_worker.catalogue.entry import Entry

OWN = [entry for entry in lookup.entries() if entry.origin == own_messages.ORIGIN]
OTHERS = [entry for entry in lookup.entries() if entry.origin != own_messages.ORIGIN]
BRANCHES = {errors.Transient, errors.Permanent, errors.Undecided}


def names(*lines: str) -> list[str]:
    return [entry.name for entry in lookup.explain(lines)]


@pytest.mark.parametrize("entry", OTHERS, ids=lambda entry: entry.name)
def test_a_message_is_found_by_its_own_words_alone(entry: Entry) -> None:
    assert names(entry.example) == [entry.name]


@pytest.mark.parametrize("entry", lookup.entries(), ids=lambda entry: entry.name)
def test_every_entry_has_a_cause_and_a_remedy_in_whole_sentences(entry: Entry) -> None:
    assert entry.cause and entry.remedy and entry.example
    assert "{" not in entry.cause + entry.remedy
    assert re.fullmatch(r"[A-Za-z][A-Za-z-]+", entry.name)
    assert not entry.link or entry.link.startswith("https://")


def test_no_name_stands_for_two() -> None:
    counted = collections.Counter(entry.name.lower() for entry in lookup.entries())
    assert [name for name, times in counted.items() if times > 1] == []


def test_every_error_of_the_worker_has_its_page() -> None:
    defined = {kind.__name__ for kind in vars(errors).values()
               if isinstance(kind, type) and issubclass(kind, errors.Error)
               and kind not in BRANCHES | {errors.Error}}
    assert {e.name for e in OWN} == defined


def test_an_error_of_the_worker_is_found_by_the_sentence_it_prints() -> None:
    printed = errors.LeftoverInTheWay(instance="an-instance", host="node2",
                                      reason="nobody has it").sentence
    assert names(printed) == ["LeftoverInTheWay"]


@pytest.mark.parametrize("entry", [e for e in OWN if e.pattern], ids=lambda entry: entry.name)
def test_whatever_is_in_its_fields_an_error_is_found(entry: Entry) -> None:
    assert entry.name in names(f"2026-11-24 10:15:00 WARNING {entry.example}: and more")


@pytest.mark.parametrize("entry", OWN, ids=lambda entry: entry.name)
def test_a_long_line_is_searched_once(entry: Entry) -> None:
    """A log has lines of thousands of characters: a repetition that is tried anew from each of
    them, or by the one before it, takes minutes for some hundred lines.
    """
    begin, *others = entry.pattern.split("(?>.+?")
    assert ".+" not in begin + "".join(others)


def test_a_reason_inside_our_sentence_comes_first() -> None:
    printed = errors.MoveRefused(
        instance="an-instance", fix="", reason="internal error: Cannot get interface MTU on "
        "'qbr0b6f4a8e-5c': No such device").sentence
    assert names(printed) == ["bridge-missing", "MoveRefused"]


@pytest.mark.parametrize(("line", "name"), [
    ("libvirt.libvirtError: Secret not found: rbd no secret matches uuid 'fd88ccde'",
     "secret-missing"),
    ("error: internal error Attempt to migrate guest to the same host 00020003-0004",
     "same-host"),
    ("Live Migration failure: Unsafe migration: Migration may lead to data corruption if disks "
     "use cache != none", "unsafe-migration"),
    ("internal error guest CPU is not compatible with host CPU", "cpu-incompatible"),
    ("Certificate /etc/pki/libvirt/servercert.pem owner does not match the hostname node2",
     "tls-name"),
    ("Timed out during operation: cannot acquire state change lock (held by agent=x)",
     "state-change-lock"),
])
def test_the_words_of_other_releases_are_known_too(line: str, name: str) -> None:
    assert name in names(line)


@pytest.mark.parametrize("line", [
    "", "everything is well", "node2: something: else", "x" * 1_000_000,
    "INFO nova.compute.manager [-] Running instance usage audit for host node1",
    "the guest reads from the disk and connects to nothing",
])
def test_nothing_is_said_of_what_is_not_known(line: str) -> None:
    assert names(line) == []


def test_an_entry_is_told_once_for_many_lines() -> None:
    line = next(e.example for e in OTHERS if e.name == "same-host")
    assert names(line, "nothing", line) == ["same-host"]


def test_a_name_is_known_in_any_case() -> None:
    for known in lookup.entries():
        assert lookup.named(known.name.upper()) is known
