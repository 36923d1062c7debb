# SPDX-License-Identifier: Apache-2.0
"""What a scenario needs: Nova, workers beside its computes, and eyes on both hosts' disks."""

import collections.abc
import concurrent.futures
import contextlib
import json
import pathlib
import shutil
import typing as ty

from devstack import gate
from devstack import lab as labs
from devstack.lab import worker as lab_workers
from rbd_worker.migration import journal
from rbd_worker.model import Outcome
from tests import waiting

SECONDS = 60.0
#: Nova removes the source's directory within a second; nobody has to wait a minute here.
GRACE = 2


class Scene:
    """``one`` and ``two`` are the compute hosts; servers are named by their UUID."""

    def __init__(self, cloud: gate.Cloud) -> None:
        self.cloud = cloud
        self.lab = cloud.lab
        self.one, self.two = cloud.lab.host("node1"), cloud.lab.host("node2")
        self.hosts = (self.one, self.two)
        self.workers: dict[str, labs.Worker] = {}

    # -- workers ---------------------------------------------------------------

    def start_workers(self, **own: object) -> None:
        """Start both workers; ``own`` are options of [rbd_worker]."""
        # audits are ordered by the tests that want one
        options = {"nova_cleanup_grace": GRACE, "audit_interval": 0, **own}
        for host in self.hosts:
            self.workers[host.name] = self.cloud.start_worker(host, **options)
        self._each(labs.Worker.wait_ready)

    def restart_worker(self, host: labs.Host) -> None:
        self.workers[host.name] = lab_workers.start(host).wait_ready()

    def stop_workers(self) -> None:
        """Stop both; they count as not there from then on."""
        self._each(labs.Worker.stop)
        self.workers.clear()

    def _each(self, action: ty.Callable[[labs.Worker], object]) -> None:
        """Have it done with both workers at the same time."""
        with concurrent.futures.ThreadPoolExecutor() as pool:
            list(pool.map(action, self.workers.values()))

    def workerctl(self, host: labs.Host, *argv: str) -> str:
        """What ``rbd-workerctl ARGV`` prints on that host."""
        return host.run([lab_workers.program("rbd-workerctl"), *lab_workers.CONFIG_FILES, *argv],
                        check=False).stdout

    # -- what the workers know ---------------------------------------------------

    def entries(self, host: labs.Host, uuid: str) -> list[journal.Entry]:
        """The host's journal entries of a server, oldest first."""
        with contextlib.closing(
                journal.JournalReader(host.root / "var/lib/nova/rbd-worker")) as reader:
            return sorted(reader.entries_of(uuid, limit=1000),
                          key=lambda entry: entry.opened)

    def outcomes(self, uuid: str, migration: gate.Migration, seconds: float = SECONDS,
                 ) -> dict[str, Outcome | None]:
        """By host, how a migration ended, once both entries of it are closed."""
        def found() -> dict[str, journal.Entry]:
            return {host.name: entry for host in self.hosts
                    for entry in self.entries(host, uuid)
                    if entry.migration.key == migration.uuid}

        self.until(lambda: len(found()) == 2 and not any(e.is_open for e in found().values()),
                   f"the end of {migration} in both journals", seconds, found)
        return {name: entry.outcome for name, entry in found().items()}

    # -- what is on the disks ------------------------------------------------------

    def directory(self, host: labs.Host, uuid: str) -> pathlib.Path:
        return host.nova_instances / uuid

    def trash(self, host: labs.Host) -> list[pathlib.Path]:
        """The removed directories on that host."""
        trash = host.nova_instances / ".rbd-worker/trash"
        return sorted(item / "directory" for item in trash.iterdir()) if trash.is_dir() else []

    def staging(self) -> list[str]:
        """What stands in staging on either host."""
        return [path.name for host in self.hosts
                for path in (host.nova_instances / ".rbd-worker/staging").glob("*")]

    def assert_whole(self, uuid: str, host: labs.Host) -> None:
        """The guest runs on that host, with the one directory there is, and Nova agrees."""
        server = self.cloud.show(uuid)
        assert (server.status, server.host) == ("ACTIVE", host.name), server
        assert self.cloud.guest(uuid).running_on() == [host.name]
        assert self.cloud.directories(uuid) == [host.name]
        assert self.staging() == []

    def assert_running_alone(self, uuid: str, host: labs.Host) -> None:
        """The guest runs there and nowhere else, and Nova has left one directory."""
        assert self.cloud.guest(uuid).running_on() == [host.name]
        assert self.cloud.directories(uuid) == [host.name]

    def leave_leftover(self, host: labs.Host, uuid: str, text: str = "precious\n") -> None:
        """A directory of an earlier stay with a file in it."""
        directory = self.directory(host, uuid)
        directory.mkdir()
        (directory / "console.log").write_text(text)

    def findings(self, host: labs.Host) -> dict[str, dict[str, str]]:
        """Have the worker audit now and act: each instance's row as the operator sees it."""
        found = json.loads(self.workerctl(host, "audit", "--act", "-f", "json"))
        return {each["Instance"]: each for each in found}

    def audit(self, host: labs.Host) -> dict[str, tuple[str, str]]:
        """The same: instance to verdict and reason."""
        return {instance: (row["Verdict"], row["Reason"])
                for instance, row in self.findings(host).items()}

    def assert_audit_trashes(self, uuid: str, host: labs.Host) -> None:
        """The audit of that host moves the server's directory to the trash, as the one item there,
        sooner or later: the directory may be too young yet, or a witness too slow."""
        self.until(lambda: self.audit(host).get(uuid, ("", ""))[0] == "trashed",
                   "the audit's verdict", shown=lambda: self.audit(host))
        assert len(self.trash(host)) == 1

    # -- waiting -------------------------------------------------------------------

    def until(self, condition: ty.Callable[[], bool], what: str, seconds: float = SECONDS,
              shown: ty.Callable[[], object] = str) -> None:
        """Wait for ``condition``; the end of the workers' logs explains a failure."""
        waiting.until(condition, what, seconds, self.workers, shown)

    # -- between two scenarios ---------------------------------------------------

    def clear(self) -> None:
        """No worker, server, fault, directory or journal is left."""
        for host in self.hosts:
            lab_workers.service(host).kill9()
            if not self.cloud.compute(host.name).is_running():
                self.cloud.start_compute(host.name)
        self.cloud.remove_all()
        for host in self.hosts:
            shutil.rmtree(host.root / "var/lib/nova/rbd-worker", ignore_errors=True)
            for path in host.nova_instances.iterdir():
                if path.name == ".rbd-worker" or path.name[8:9] == "-":
                    shutil.rmtree(path)


def names(directory: pathlib.Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*")}


def ticks(console: str) -> collections.abc.Sequence[int]:
    """The numbers of the complete lines that the talkative guest wrote."""
    lines = (line.split() for line in console.splitlines())
    return [int(words[1], 16) for words in lines
            if len(words) == 2 and words[0] == "tick" and len(words[1]) == 4]
