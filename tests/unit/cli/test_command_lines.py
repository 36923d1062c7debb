# SPDX-License-Identifier: Apache-2.0
"""What an operator types and where it is printed: wrong words, examples, odd streams."""

import argparse
import importlib.metadata
import json
import os
import pathlib
import shlex
import subprocess
import sys
import typing as ty

import pytest

from rbd_worker.cli import base
from rbd_worker.cli.app import Control

SCRIPT = str(pathlib.Path(sys.executable).with_name("rbd-workerctl"))
COMMANDS = sorted(importlib.metadata.entry_points(group="rbd_worker.cli"), key=lambda e: e.name)
UUID = "0b6f4a8e-5c1c-4a2f-9a5f-3e1d7c2b9a10"

Command: ty.TypeAlias = base.Command | base.Lister | base.ShowOne


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SCRIPT, *words], text=True, capture_output=True, timeout=60,
                          stdin=subprocess.DEVNULL)


def shell(line: str, buffered: bool = True) -> subprocess.CompletedProcess[str]:
    """``ctl`` stands for the command; what the shell prints on standard error is left out."""
    environment = dict(os.environ) | {"PYTHONUNBUFFERED": "" if buffered else "1"}
    return subprocess.run(["bash", "-c", line.replace("ctl", SCRIPT)], text=True,
                          capture_output=True, timeout=60, env=environment)


@pytest.mark.parametrize("words", [
    (), ("preflight",), ("preflight", "node2", "--all"),
    ("preflight", "--all", "--instance", UUID),
    ("status", "--host", "*"), ("trash", "list", "--host", ""),
    ("report", "--html", "-", "--since", "1d", "--until", "2d")])
def test_a_wrong_command_line_ends_with_2_and_its_usage(words: tuple[str, ...]) -> None:
    done = run(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: rbd-workerctl")
    assert "error: " in done.stderr.splitlines()[-1]


def test_of_an_idle_worker_it_is_said_which_files_were_read(tmp_path: pathlib.Path) -> None:
    empty = tmp_path / "empty.conf"
    empty.touch()
    worker = json.loads(run("--config-file", str(empty), "status", "-f", "json").stdout)["worker"]
    assert f"images_type is not rbd (read: {empty})" in worker


# -- help --------------------------------------------------------------------


def parser_of(entry: importlib.metadata.EntryPoint) -> tuple[Command, argparse.ArgumentParser]:
    command: Command = entry.load()(Control(), None)
    return command, command.get_parser(f"rbd-workerctl {entry.name}")


@pytest.mark.parametrize("entry", COMMANDS, ids=lambda e: e.name)
def test_every_command_has_examples_that_it_takes(entry: importlib.metadata.EntryPoint) -> None:
    command, parser = parser_of(entry)
    for example in command.examples:
        words = shlex.split(example.replace("\\\n", "").partition(" <")[0].partition(" >")[0])
        noun = entry.name.split()
        assert words[:len(noun)] == noun
        parser.parse_args(words[len(noun):])
        assert f"  rbd-workerctl {example}\n" in parser.format_help()


@pytest.mark.parametrize("entry", COMMANDS, ids=lambda e: e.name)
def test_every_word_of_every_command_is_explained(entry: importlib.metadata.EntryPoint) -> None:
    _, parser = parser_of(entry)
    assert [action.dest for action in parser._actions if not action.help] == []


def test_with_debug_it_is_shown_where_an_error_came_from() -> None:
    words = ("--config-file", "/nowhere.conf", "status")
    assert run(*words).stderr.startswith("rbd-workerctl: ")
    assert run("--debug", *words).stderr.startswith("Traceback")


def test_files_and_directories_are_read_in_their_order(tmp_path: pathlib.Path) -> None:
    def configured(*names: str) -> str:
        words = [f"--config-{'dir' if name.endswith('.d') else 'file'}={tmp_path / name}"
                 for name in names]
        done = run(*words, "status", "-f", "json")
        return str(json.loads(done.stdout)["host"])
    (tmp_path / "more.d").mkdir()
    (tmp_path / "nova.conf").write_text("[DEFAULT]\nhost = one\n")
    (tmp_path / "more.d/50.conf").write_text("[DEFAULT]\nhost = two\n")
    assert configured("nova.conf", "more.d") == "two"
    assert configured("more.d", "nova.conf") == "one"


# -- streams -----------------------------------------------------------------


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
def test_a_closed_stream_takes_what_is_said_without_a_word(closed: str) -> None:
    done = shell(f"ctl explain NoSpace -f value -c Name {closed}")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == ("" if ">&-" in closed.split() else "NoSpace\n")


def test_what_is_opened_later_is_not_taken_for_a_closed_stream(tmp_path: pathlib.Path) -> None:
    """The page would have the number of standard error, and the complaint be in it."""
    done = shell(f"ctl report --html {tmp_path}/page.html --host node2 2>&- >&-")
    assert done.returncode == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", ["explain NoSpace", "explain", "--version", "--help",
                                   "explain --help"])
@pytest.mark.parametrize("buffered", [True, False])
def test_a_reader_that_has_gone_is_no_complaint(words: str, buffered: bool) -> None:
    done = shell(f"(ctl {words}) | true; echo ${{PIPESTATUS[0]}}", buffered)
    assert done.stderr == ""
    assert done.stdout in ("141\n", "0\n")


@pytest.mark.parametrize("words", ["explain NoSpace", "explain"])
@pytest.mark.parametrize("buffered", [True, False])
def test_a_full_disk_is_told_in_one_sentence(words: str, buffered: bool) -> None:
    done = shell(f"ctl {words} >/dev/full", buffered)
    assert (done.returncode, done.stderr) == (
        1, "rbd-workerctl: standard output cannot be written: No space left on device\n")


def test_a_question_that_nobody_can_answer_names_the_option() -> None:
    done = run("migration", "resolve", UUID, "--as", "failed")
    assert (done.returncode, done.stdout) == (1, "")
    assert "standard input is no terminal. Look at what it is about, then give --yes" in (
        done.stderr)
