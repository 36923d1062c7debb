# SPDX-License-Identifier: Apache-2.0
"""The guest's file systems at rest for a moment, and thawed whatever happens.

The guest comes first: after ``limit`` seconds it is thawed, however far its
snapshot is.  That it is to be thawed is in the journal before it is frozen,
so that a worker that was killed in between thaws it when it starts.  A thaw
that fails is a debt that is tried again until it is paid.

The agent may carry out later what it did not answer in time.  Such a freeze is
followed by a thaw now and by another one once no freeze can be under way.
"""

import contextlib
import logging
import threading
import time
import typing as ty

from rbd_worker import errors
from rbd_worker.host.hypervisor import Hypervisor
from rbd_worker.snapshots.ledger import Debt, Ledger
from rbd_worker.snapshots.sets import SnapshotSet

LOG = logging.getLogger(__name__)

#: Seconds after which a freeze that was not answered has happened, or never will.
LATE_SECONDS = 60.0


class Pause:
    """One guest's file systems, from the freeze to the thaw.

    :ivar systems: how many were frozen; 0 where there was nothing to freeze.
    """

    def __init__(self, systems: int) -> None:
        self.systems = systems
        self.ended = threading.Event()


class Freezer:
    """Thread-safe; one guest is frozen by one thread at a time, which its caller sees to.

    :param limit: seconds from the order to freeze to the order to thaw, at most.
    """

    def __init__(self, ledger: Ledger, hypervisor: Hypervisor, limit: float) -> None:
        self._ledger = ledger
        self._hypervisor = hypervisor
        self._limit = limit
        self._lock = threading.Lock()
        #: Debts that a thread of this process works on.
        self._held: set[str] = set()
        #: False where the journal need not be read for debts.
        self._may_owe = True
        self._is_stopping = False

    @contextlib.contextmanager
    def frozen(self, one: SnapshotSet) -> ty.Iterator[Pause]:
        """Hold the guest's file systems during the ``with`` block, ``limit`` seconds at most.

        :raises errors.FreezeRefused: they were not frozen; nothing was done.
        :raises errors.HypervisorUnavailable: no answer; it is thawed, now and later on.
        :raises errors.SnapshotTooSlow: at the end of the block, that the guest was
            thawed before it was reached.
        :raises errors.JournalUnusable: nothing was done.
        """
        trouble = self._hypervisor.agent_trouble(one.instance)
        if trouble:  # a thaw could not be paid either
            raise errors.FreezeRefused(instance=one.instance, reason=trouble)
        debt = self._ledger.owe_thaw(one)
        self._may_owe = True
        with self._holding(debt):
            began = time.monotonic()
            pause = self._freeze(debt)
            left = max(0.0, self._limit - (time.monotonic() - began))
            guard = threading.Timer(left, self._thaw, (debt, pause))
            guard.daemon = True
            guard.start()
            try:
                yield pause
            finally:
                was_held = not pause.ended.is_set()
                guard.cancel()
                self._thaw(debt, pause)
        if not was_held:
            raise errors.SnapshotTooSlow(
                name=one.name, instance=one.instance,
                reason=f"the guest was held for {self._limit:g} s and was thawed first")

    def pay_debts(self) -> list[str]:
        """Thaw every guest that should be and is not; why some still are not, a sentence each."""
        troubles: list[str] = []
        if not self._may_owe:
            return troubles
        self._may_owe = False
        try:
            debts = self._ledger.debts()
        except errors.JournalUnusable:
            self._may_owe = True
            raise
        self._may_owe = self._may_owe or bool(debts)
        for debt in debts:
            with self._lock:
                if debt.id in self._held:
                    continue
            try:
                self._pay(debt)
            except errors.GuestFrozen as e:
                troubles.append(e.sentence)
        return troubles

    def stop(self) -> None:
        """Thaw what is frozen, whoever holds it, and freeze nothing more; the journal stays."""
        self._is_stopping = True
        for debt in self._ledger.debts():
            try:
                self._hypervisor.thaw(debt.instance)
            except errors.GuestFrozen as e:
                LOG.error("%s", e.sentence)

    # -- inside --------------------------------------------------------------

    def _freeze(self, debt: Debt) -> Pause:
        try:
            if self._is_stopping:
                raise errors.FreezeRefused(instance=debt.instance, reason="this worker stops")
            return Pause(self._hypervisor.freeze(debt.instance, self._limit))
        except errors.FreezeRefused:
            self._thaw(debt, Pause(0))  # some file systems may be frozen, and one said no
            raise
        except errors.HypervisorUnavailable as e:
            LOG.warning("[instance: %s] the guest's agent did not answer in time, so the guest is "
                        "thawed now and again in %g s: %s", debt.instance, LATE_SECONDS, e)
            with contextlib.suppress(errors.GuestFrozen):
                self._hypervisor.thaw(debt.instance)
            raise

    def _thaw(self, debt: Debt, pause: Pause) -> None:
        """The first call counts; a failure stays a debt."""
        with self._lock:
            if pause.ended.is_set():
                return
            pause.ended.set()
        try:
            if not self._hypervisor.thaw(debt.instance):
                LOG.error("[instance: %s] it was frozen here and is not here any more: where it "
                          "runs now, run virsh domfsthaw %s", debt.instance, debt.instance)
            self._ledger.settle(debt)
        except errors.Error as e:
            LOG.error("[instance: %s] %s", debt.instance, e.sentence)

    def _pay(self, debt: Debt) -> None:
        if not self._hypervisor.thaw(debt.instance):
            LOG.warning("[instance: %s] it may have been frozen here and does not run here any "
                        "more: if it runs elsewhere and hangs, run virsh domfsthaw %s there",
                        debt.instance, debt.instance)
        elif 0 <= self._ledger.clock() - debt.at < LATE_SECONDS:
            return  # once more when no freeze can be under way
        else:
            LOG.info("[instance: %s] its file systems are thawed", debt.instance)
        self._ledger.settle(debt)

    @contextlib.contextmanager
    def _holding(self, debt: Debt) -> ty.Iterator[None]:
        with self._lock:
            self._held.add(debt.id)
        try:
            yield
        finally:
            with self._lock:
                self._held.discard(debt.id)
