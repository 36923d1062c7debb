# SPDX-License-Identifier: Apache-2.0
"""What an operator sees of snapshots and of what takes long."""

import argparse
import io
import types
import typing as ty

import pytest

from rbd_worker import errors
from rbd_worker.cli import snapshot, snapshot_jobs
from rpcapi import client as clients
from rpcapi import snapshots as contract

INSTANCE = "a05482ec-d71a-48c7-bf99-94d829b20aef"


class Client:
    """Gives one answer after the other, the last one again and again."""

    def __init__(self, *answers: contract.Job | Exception) -> None:
        self._answers = list(answers)

    def call(self, *_: ty.Any) -> contract.Job:
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def job(state: ty.Any, share: float = 0.0, reason: str = "") -> contract.Job:
    disk_state: ty.Literal["done", "doing"] = "done" if state == "done" else "doing"
    return contract.Job(
        id="j-1", kind="copy", instance=INSTANCE, name="first", state=state, reason=reason,
        disks=(contract.JobDisk(image="vms/a", target="backups/a.first", state=disk_state,
                                share=share),))


def followed(monkeypatch: pytest.MonkeyPatch, *answers: contract.Job | Exception,
             ) -> tuple[int, str]:
    monkeypatch.setattr(snapshot_jobs, "INTERVAL", 0.0)
    stream, client = io.StringIO(), ty.cast(clients.Client, Client(*answers))
    status = snapshot_jobs.follow(client, "node1", job("doing"), stream)
    return status, stream.getvalue()


def test_a_copy_is_followed_to_its_end_over_a_restart_of_the_worker(
        monkeypatch: pytest.MonkeyPatch) -> None:
    status, said = followed(monkeypatch, clients.Unreachable("no answer"),
                            job("doing", 0.5, "Ceph is away"), job("done", 1.0))
    assert status == 0
    assert "it waits: Ceph is away" in said
    assert said.splitlines()[-1] == "vms/a is copied to backups/a.first"


def test_a_copy_that_failed_says_why_with_a_status_of_its_own(
        monkeypatch: pytest.MonkeyPatch) -> None:
    assert followed(monkeypatch, job("failed", reason="no room")) == (
        4, "vms/a: doing\nit failed: no room\n")


def test_a_worker_that_stays_away_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot_jobs, "PATIENCE", -1.0)
    with pytest.raises(errors.PeerUnreachable):
        followed(monkeypatch, clients.Unreachable("no answer"))


@pytest.mark.parametrize("name", ["a/b", "", "a b", "-" * 200, "\x1b[0m"])
def test_an_odd_pool_is_refused_before_anybody_is_asked(name: str) -> None:
    with pytest.raises(errors.BadInput):
        snapshot.check_pool(name)


def test_each_disk_of_a_snapshot_is_told() -> None:
    names, values = snapshot.shown(contract.Snapshot(
        name="first", instance=INSTANCE, host="node1", at=1000.0, state="incomplete",
        disks=(contract.Disk(image="vms/a", snapshot="rbd-worker.first", id=7, size=4 << 20,
                             protected=True, children=("backups/x",)),
               contract.Disk(image="vms/b", snapshot="rbd-worker.first")),
        jobs=(job("doing", 0.25),)))
    told = dict(zip(names, values, strict=True))
    assert told["disks"].human_readable() == (
        "vms/a@rbd-worker.first 4.0 MiB, protected, cloned as backups/x\n"
        "vms/b@rbd-worker.first is not there")
    assert told["jobs"].human_readable() == "copy j-1: doing, 25%"
    assert told["expires"] == ""


class Console:
    """As much of the command's application as a list needs."""

    def __init__(self, answer: contract.ListReply) -> None:
        self.stderr, self.settings = io.StringIO(), types.SimpleNamespace(host="node1")
        self._answer = answer

    def client(self) -> ty.Any:
        return types.SimpleNamespace(call=lambda *_, **__: self._answer)


@pytest.mark.parametrize(("instance", "said"), [
    (INSTANCE, f"no snapshot of {INSTANCE} is known on node1; "), (None, "")])
def test_an_empty_list_says_whose_knowledge_it_is(instance: str | None, said: str) -> None:
    console = Console(contract.ListReply(snapshots=()))
    command = snapshot.SnapshotList(ty.cast(ty.Any, console), None)
    _, rows = command.take_action(argparse.Namespace(instance=instance, host=None))
    assert list(rows) == []
    assert console.stderr.getvalue().partition("whoever")[0] == said
