# SPDX-License-Identifier: Apache-2.0
"""The process with privileges is asked by a worker that an attacker has taken over."""

import contextlib
import logging
import os
import pathlib
import resource
import socket
import threading
import typing as ty

import pytest

from rbd_worker.host import privileged, syscalls
from tests.unit.host.deputies import as_worker, ask, become, channel, host, in_child, make, refusal
from tests.unit.host.trees import NOBODY, OTHER, UUID, Host, meanwhile, needs_root, snapshot

__all__ = ["host"]
pytestmark = needs_root

OWN = ".rbd-worker"
SECRET = b"root:secret"


@pytest.fixture
def outside(host: Host) -> pathlib.Path:
    """A directory of root's beside instances_path, with a name that begins like it."""
    directory = host.path.with_name(host.path.name + "-of-root")
    directory.mkdir()
    (directory / "shadow").write_bytes(SECRET)
    (directory / "shadow").chmod(0o600)
    os.chown(host.path.parent, NOBODY, NOBODY)
    return directory


@pytest.fixture
def directory(host: Host) -> pathlib.Path:
    return make(host, UUID, console_log=b"boot")


@pytest.fixture
def area(host: Host) -> pathlib.Path:
    """The worker's own area, with a file in it."""
    area = host.path / OWN / "staging"
    area.mkdir(parents=True)
    (area / "copy").write_bytes(b"copy")
    (area / "copy").chmod(0o600)
    for path in (area, area.parent):
        os.chown(path, NOBODY, NOBODY)
    return area


def _all_refused(host: Host, *asked: tuple[str, tuple[ty.Any, ...], list[pathlib.Path]],
                 ) -> list[str]:
    """What was not refused, of these."""
    return as_worker(host, lambda: [f"{what}{arguments} at {at}" for what, arguments, at in asked
                                    if not refusal(what, *arguments, at=at)])


def test_nothing_outside_of_instances_path_is_opened_or_changed(host: Host, outside: pathlib.Path,
                                                                directory: pathlib.Path) -> None:
    before = snapshot(host.path.parent)
    assert _all_refused(
        host,
        *(("open_regular", ("shadow",), [place]) for place in (outside, pathlib.Path("/etc"))),
        *(("open_directory", (place.name,), [place.parent]) for place in (
            outside, pathlib.Path("/root"))),
        ("see", ("shadow",), [outside]),
        ("ensure_absent", ("shadow",), [outside]),
        *(("ensure_attributes", (NOBODY, NOBODY, 0o666, 0), [place])
          for place in (outside, outside / "shadow", pathlib.Path("/etc/shadow"))),
        ("ensure_moved", ("shadow", "shadow", syscalls.NOREPLACE), [outside, directory]),
        ("ensure_moved", ("console.log", "console.log", syscalls.NOREPLACE), [directory, outside]),
        ("ensure_moved", (outside.name, OTHER, syscalls.NOREPLACE), [outside.parent, host.path]),
    ) == []
    assert snapshot(host.path.parent) == before


@pytest.mark.parametrize("name", [
    "", ".", "..", "../instances-of-root/shadow", "sub/console.log", "/etc/shadow", "a\0b",
    b"console.log", 7, None, ["console.log"]])
def test_a_name_is_one_name(host: Host, directory: pathlib.Path, outside: pathlib.Path,
                            name: ty.Any) -> None:
    assert _all_refused(
        host, ("open_regular", (name,), [directory]), ("open_directory", (name,), [directory]),
        ("see", (name,), [directory]), ("ensure_absent", (name,), [directory]),
        ("ensure_moved", (name, "new", syscalls.NOREPLACE), [directory, directory]),
        ("ensure_moved", ("console.log", name, syscalls.NOREPLACE), [directory, directory]),
    ) == []
    assert (directory / "console.log").read_bytes() == b"boot"


def test_a_link_leads_nowhere(host: Host, directory: pathlib.Path, outside: pathlib.Path) -> None:
    (directory / "file").symlink_to(outside / "shadow")
    (directory / "way").symlink_to(outside)
    os.mkfifo(directory / "fifo")

    def asked() -> list[ty.Any]:
        found: list[ty.Any] = [ask("open_regular", name, at=[directory])
                               for name in ("file", "way", "fifo")]
        with contextlib.suppress(NotADirectoryError):
            found.append(ask("open_directory", "way", at=[directory]))
        for what, arguments in (("open_regular", ("shadow",)),
                                ("ensure_attributes", (NOBODY, NOBODY, 0o666, 0))):
            found.append(refusal(what, *arguments, at=[directory / "way"]))
        return found

    assert as_worker(host, asked) == [[], [], [], True, True]
    assert (outside / "shadow").stat().st_uid == 0


def test_a_second_name_for_a_file_elsewhere_opens_nothing(
        host: Host, directory: pathlib.Path, area: pathlib.Path, outside: pathlib.Path) -> None:
    for place in (directory, area):
        os.link(outside / "shadow", place / "mine")
    before = snapshot(outside)
    assert _all_refused(
        host, ("open_regular", ("mine",), [directory]), ("open_regular", ("mine",), [area]),
        ("ensure_attributes", (NOBODY, NOBODY, 0o666, 0), [area / "mine"])) == []
    assert snapshot(outside) == before


def test_only_directories_of_instances_and_its_own_are_entered(host: Host) -> None:
    for name in ("_base", "locks", "compute_nodes"):
        (host.path / name).mkdir()
        (host.path / name / "file").write_bytes(SECRET)
        (host.path / name).chmod(0o700)
    assert _all_refused(host, *(
        asked for name in ("_base", "locks", "compute_nodes") for asked in (
            ("open_directory", (name,), [host.path]),
            ("open_regular", ("file",), [host.path / name]),
            ("ensure_moved", (name, OTHER, syscalls.NOREPLACE), [host.path, host.path])))) == []
    assert (host.path / "_base").is_dir()


def test_what_belongs_to_others_changes_owner_in_its_own_area_only(
        host: Host, directory: pathlib.Path, area: pathlib.Path) -> None:
    os.chown(host.path, 0, 0)
    before = snapshot(directory)
    assert _all_refused(host, *(
        ("ensure_attributes", (NOBODY, NOBODY, 0o666, 0), [place])
        for place in (directory / "console.log", host.path))) == []
    assert snapshot(directory) == before and host.path.stat().st_uid == 0
    as_worker(host, lambda: ask("ensure_attributes", 7, 8, 0o640, 0, at=[area / "copy"]))
    status = (area / "copy").stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (7, 8, 0o640)


def test_its_area_itself_and_instances_path_stay_the_workers(host: Host, area: pathlib.Path,
                                                             ) -> None:
    os.chown(area.parent, 0, 0)
    assert _all_refused(host, ("ensure_attributes", (NOBODY, NOBODY, 0o777, 0), [area.parent]),
                        ("ensure_attributes", (7, 7, 0o777, 0), [host.path])) == []
    assert (area.parent.stat().st_uid, host.path.stat().st_uid) == (0, NOBODY)


def test_nobody_gets_a_program_that_runs_as_root(host: Host, area: pathlib.Path) -> None:
    (area / "program").write_bytes(b"#!")
    (area / "program").chmod(0o4755)
    as_worker(host, lambda: ask("ensure_attributes", 0, 0, 0o6755, 0, at=[area / "copy"]))
    status = (area / "copy").stat()
    assert (status.st_uid, status.st_mode & 0o7777) == (0, 0o755)
    assert _all_refused(host, ("ensure_attributes", (0, 0, 0o755, 0), [area / "program"])) == []


@pytest.mark.parametrize(("uid", "gid"), [(-1, 0), (0, -1), (1 << 32, 0), ((1 << 32) - 1, 0),
                                          ("0", 0), (None, 0), (0, 1.5)])
def test_an_owner_is_a_number_that_can_be_one(host: Host, area: pathlib.Path, uid: ty.Any,
                                              gid: ty.Any) -> None:
    before = snapshot(area)
    assert _all_refused(host, ("ensure_attributes", (uid, gid, 0o600, 0), [area / "copy"])) == []
    assert snapshot(area) == before


def test_nothing_of_an_instance_is_replaced_or_removed(host: Host, directory: pathlib.Path,
                                                       area: pathlib.Path) -> None:
    os.chown(directory, 0, 0)
    assert _all_refused(
        host, ("ensure_absent", ("console.log",), [directory]),
        *(("ensure_moved", ("copy", "console.log", flags), [area, directory])
          for flags in (0, 4, 7, -1, 1 << 40, "0", None))) == []
    assert (directory / "console.log").read_bytes() == b"boot"
    assert (area / "copy").read_bytes() == b"copy"


def test_instances_path_cannot_be_put_elsewhere(host: Host, outside: pathlib.Path) -> None:
    """Its parent is the worker user's home: that user can give its name to anything."""
    (outside / UUID).mkdir()
    (outside / UUID / "shadow").write_bytes(SECRET)

    def moved(other: ty.Callable[[], object]) -> bool:
        host.path.rename(host.path.with_name("away"))
        other()
        assert (host.path / UUID / "shadow").exists()
        return refusal("open_regular", "shadow", at=[host.path / UUID])

    assert as_worker(host, lambda: moved(lambda: host.path.symlink_to(outside)))
    host.path.unlink()
    host.path.with_name("away").rename(host.path)
    assert as_worker(host, lambda: moved(lambda: outside.rename(host.path)))


@pytest.mark.parametrize("count", [0, 2])
def test_a_call_comes_with_what_belongs_to_it(host: Host, directory: pathlib.Path,
                                              count: int) -> None:
    def asked() -> tuple[str, list[int]]:
        try:
            ask("open_regular", "console.log", at=[directory] * count)
        except Exception as e:
            return type(e).__name__, ask("open_regular", "console.log", at=[directory])
        raise AssertionError("it was answered")

    error, found = as_worker(host, asked)
    assert error == "Gone" and len(found) == 1


def test_what_is_no_file_at_all_is_refused(host: Host) -> None:
    def asked() -> bool:
        one, other = socket.socketpair()
        with one, other:
            try:
                channel().ask("open_regular", [one.fileno()], "console.log")
            except PermissionError:
                return True
        return False

    assert as_worker(host, asked)


def test_a_directory_that_is_gone_holds_nothing(host: Host, directory: pathlib.Path) -> None:
    def asked() -> bool:
        (directory / "sub").mkdir()
        fd = os.open(directory / "sub", os.O_RDONLY)
        (directory / "sub").rmdir()
        try:
            channel().ask("see", [fd], "..")
        except PermissionError:
            return True
        return False

    assert as_worker(host, asked)


def test_what_has_lost_its_name_is_not_taken_for_another_file(host: Host, area: pathlib.Path,
                                                              ) -> None:
    def asked() -> bool:
        with syscalls.held(os.open(area / "mine", os.O_CREAT | os.O_RDWR, 0o600)) as fd:
            (area / "mine").unlink()
            (area / "copy").rename(area / "mine (deleted)")  # as the kernel calls it now
            try:
                channel().ask("ensure_attributes", [fd], 7, 7, 0o666, 0)
            except PermissionError:
                return True
        return False

    assert as_worker(host, asked)
    assert (area / "mine (deleted)").stat().st_uid == 0


@pytest.mark.parametrize("name", [
    "os.system", "os.getpid", "subprocess.check_output", "builtins.exec",
    "rbd_worker.host.beneath.Base", "rbd_worker.host.privileged.fork",
    "rbd_worker.host.privileged.context.stop", "no.such.module"])
def test_no_other_function_is_called(host: Host, tmp_path: pathlib.Path, name: str) -> None:
    def called() -> str:
        assert privileged.context.channel is not None
        try:
            privileged.context.channel.remote_call(name, ("touch /tmp/b",), {}, 5.0)
        except (NameError, ImportError, AttributeError) as e:
            return type(e).__name__
        return "called"

    assert as_worker(host, called) in ("NameError", "ImportError", "ModuleNotFoundError",
                                       "AttributeError")


def test_no_code_is_loaded_for_a_caller(host: Host, directory: pathlib.Path,
                                        monkeypatch: pytest.MonkeyPatch) -> None:
    """oslo.privsep imports the module that a call names, before it looks at the function."""
    place = directory / "modules"
    place.mkdir()
    os.chown(place, NOBODY, NOBODY)
    monkeypatch.syspath_prepend(str(place))

    def planted() -> str:
        (place / "planted.py").write_text(f"open({str(place / 'ran')!r}, 'w')\n")
        assert privileged.context.channel is not None
        try:
            privileged.context.channel.remote_call("planted.function", (), {}, 5.0)
        except ImportError as e:
            return str(e)
        return "no error"

    assert "planted" in as_worker(host, planted)
    assert not (place / "ran").exists()


def test_calls_that_are_refused_leave_nothing_open(host: Host, directory: pathlib.Path,
                                                   outside: pathlib.Path) -> None:
    (directory / "link").symlink_to(outside)

    def many() -> int:
        for _ in range(300):
            refusal("open_regular", "shadow", at=[outside])
            refusal("open_regular", "..", at=[directory])
            refusal("ensure_moved", "a", "b", 9, at=[directory, directory])
            with contextlib.suppress(OSError):
                ask("open_directory", "link", at=[directory])
            with contextlib.suppress(FileNotFoundError):
                ask("see", "absent", at=[directory])
        return len(ask("open_regular", "console.log", at=[directory]))

    def limited() -> int:
        resource.setrlimit(resource.RLIMIT_NOFILE, (300, 300))
        return as_worker(host, many)

    assert in_child(limited) == 1


def test_names_that_are_swapped_meanwhile_open_nothing_outside(
        host: Host, directory: pathlib.Path, outside: pathlib.Path) -> None:
    def swapped() -> set[bytes]:
        real, name = directory / "real", directory / "name"
        real.mkdir(mode=0o700)
        (real / "shadow").write_bytes(b"inside")
        (directory / "link").symlink_to(outside)
        found = set()

        def swap() -> None:
            with syscalls.held(os.open(directory, os.O_RDONLY)) as fd:
                for other in ("real", "link"):
                    os.rename(other, "name", src_dir_fd=fd, dst_dir_fd=fd)
                    os.rename("name", other, src_dir_fd=fd, dst_dir_fd=fd)

        with meanwhile(swap):
            for _ in range(400):
                with contextlib.suppress(OSError):
                    for fd in ask("open_regular", "shadow", at=[name]):
                        with syscalls.held(fd):
                            found.add(os.read(fd, 99))
        return found

    assert as_worker(host, swapped) <= {b"inside"}


def test_calls_from_many_threads_get_each_their_own_file(host: Host, directory: pathlib.Path,
                                                         ) -> None:
    for number in range(8):
        (directory / f"{number}").write_bytes(b"%d" % number)
        (directory / f"{number}").chmod(0o600)

    def read() -> list[str]:
        wrong: list[str] = []

        def one(number: int) -> None:
            with syscalls.held(os.open(directory, os.O_RDONLY)) as fd:
                for _ in range(50):
                    opened = syscalls.open_regular(str(number), fd)
                    assert opened is not None
                    with syscalls.held(opened):
                        if os.read(opened, 9) != b"%d" % number:
                            wrong.append(str(number))

        threads = [threading.Thread(target=one, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return wrong

    assert as_worker(host, read) == []


def test_what_was_refused_is_in_the_workers_log(host: Host, outside: pathlib.Path) -> None:
    def logged() -> str:
        log = host.path / "log"
        logging.getLogger().addHandler(logging.FileHandler(log))
        refusal("open_regular", "shadow", at=[outside])
        return log.read_text()

    assert f"refused: {outside} is not below {host.path}" in as_worker(host, logged)


def test_the_worker_cannot_look_into_the_other_process(host: Host) -> None:
    def looked() -> list[str]:
        refused = []
        for name in ("mem", "maps", "environ", "fd/0"):
            try:
                (pathlib.Path(f"/proc/{channel().pid}") / name).open("rb").close()
            except PermissionError:
                refused.append(name)
        return refused

    assert as_worker(host, looked) == ["mem", "maps", "environ", "fd/0"]


def test_a_call_before_any_start_is_refused() -> None:
    def called() -> None:
        become(())
        privileged.context.set_client_mode(False)
        privileged.ensure_absent(1, "console.log")

    with pytest.raises(RuntimeError, match="PermissionError"):
        in_child(called)
