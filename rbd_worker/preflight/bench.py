# SPDX-License-Identifier: Apache-2.0
"""What checks look through, and how they tell what they found."""

import dataclasses
import threading
import typing as ty

from rbd_worker import conf, errors
from rbd_worker.host import hypervisor, instances, secrets
from rbd_worker.host.hypervisor import Versions
from rbd_worker.migration import journal
from rpcapi import preflight as contract

#: Longest text of one finding that travels.
_MAX_TEXT = 1024


@dataclasses.dataclass(frozen=True)
class Hearing:
    """:ivar is_proven: a probe came back lately; ``sentence`` says it for people."""

    is_proven: bool
    sentence: str


class Once:
    """An answer that several checks want: the first one asks, the others wait for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers: list[Versions | errors.Error] = []

    def ask(self, question: ty.Callable[[], Versions]) -> Versions:
        """What ``question`` returned or raised as it was asked first."""
        with self._lock:
            if not self._answers:
                try:
                    self._answers.append(question())
                except errors.Error as e:
                    self._answers.append(e)
        (answer,) = self._answers
        if isinstance(answer, errors.Error):
            raise answer
        return answer


@dataclasses.dataclass(frozen=True)
class Bench:
    """This host, as its worker sees it; see :meth:`afresh`."""

    settings: conf.Settings
    hypervisor: hypervisor.Hypervisor
    images: ty.Any  # rbd.ImageStore, or a stand-in
    directories: instances.Instances
    secrets: secrets.Secrets
    journal: journal.Journal
    hearing: ty.Callable[[], Hearing]
    images_type: str = "rbd"
    _versions: Once = dataclasses.field(default_factory=Once, init=False, compare=False)

    def versions(self) -> Versions:
        """Of libvirt and QEMU, and what libvirt tells of this host; asked for once.

        libvirt's answer is long, and slow for a while after its start.

        :raises errors.HypervisorUnavailable: it cannot be asked.
        """
        return self._versions.ask(self.hypervisor.versions)

    def afresh(self) -> "Bench":
        """The same for another survey, with nothing asked yet."""
        return dataclasses.replace(self)


class Say:
    """Makes the rows of one check."""

    def __init__(self, name: str, host: str) -> None:
        self.name = name
        self.host = host

    def ok(self, found: str) -> contract.Row:
        return self._row("ok", found)

    def warning(self, found: str, remedy: str) -> contract.Row:
        return self._row("warning", found, remedy)

    def failed(self, found: str, remedy: str) -> contract.Row:
        return self._row("failed", found, remedy)

    def unknown(self, found: str, remedy: str = "") -> contract.Row:
        return self._row("unknown", found, remedy)

    def error(self, error: errors.Error) -> contract.Row:
        """What was to be measured could not be asked."""
        return self.unknown(str(error), error.remedy.format(**error.data))

    def _row(self, state: contract.State, found: str, remedy: str = "") -> contract.Row:
        if not found:
            raise ValueError(f"{self.name}: a row says what was found")
        return contract.Row(name=self.name, host=self.host, state=state,
                            found=found[:_MAX_TEXT], remedy=remedy[:_MAX_TEXT])


Rows: ty.TypeAlias = ty.Iterator[contract.Row]


@dataclasses.dataclass(frozen=True)
class Check:
    """One subject that a host looks at in itself.

    :ivar name: of its rows.
    :ivar measure: yields one row or several; what it raises of ours becomes
        ``unknown``.  Runs beside the others, in a thread of its own.
    """

    name: str
    measure: ty.Callable[[Bench, contract.SurveyRequest, Say], Rows]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One subject in which two hosts have to agree; pure."""

    name: str
    compare: ty.Callable[[contract.Traits, contract.Traits, Say], Rows]
