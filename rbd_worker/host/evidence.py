# SPDX-License-Identifier: Apache-2.0
"""The three witnesses, asked at the moment of a removal.

Before a directory leaves this host all of these must say yes:

* ``libvirt here``: no domain with that UUID, running or defined, on this host;
* ``holder``: the peer's libvirt runs or defines it, no job runs on it there
  and no journal entry of it is in flight there;
* ``watchers``: no RBD image of it, as the holder's domain XML names them, is
  watched from this host, and a running guest's are watched from the holder;
  where Nova's own disk of it exists, the holder has to name that one, too;
* ``path``: the directory here and the holder's are two different ones.

A witness that cannot be asked is UNKNOWN, which counts as a no.  Nothing in
here removes anything, and nothing is remembered from an earlier asking.
"""

import concurrent.futures
import typing as ty

from rbd_worker import errors
from rbd_worker.host import hypervisor as hypervisors
from rbd_worker.host import instances, peers, probe, rbd
from rbd_worker.model import Evidence, Fact, GuestState, Phase, RbdImage, Verdict
from rpcapi import payloads

#: What a holder may say of its guest: it has it, running or not, and it stays.
_HELD = (GuestState.RUNNING, GuestState.PAUSED, GuestState.SHUTOFF)
#: A paused guest's QEMU holds its images as a running one's does.
_WITH_QEMU = (GuestState.RUNNING, GuestState.PAUSED)
#: Images that Ceph is asked about at the same time, each some round trips to an OSD;
#: fewer than the client's threads, so that plans are answered meanwhile.
_AT_ONCE = 6
#: Phases of a migration in which a worker orders nothing from libvirt.
_AT_REST = (Phase.PRE, Phase.ROLLBACK)


class Witnesses:
    """Asks the witnesses; thread-safe, blocks for the time limits of its adapters.

    :param own_pool: where Nova keeps the disks of its guests; empty for no look there.
    """

    def __init__(self, hypervisor: hypervisors.Hypervisor, images: rbd.ImageStore,
                 directories: instances.Instances, others: peers.Peers,
                 own_pool: str = "") -> None:
        self._hypervisor = hypervisor
        self._images = images
        self._directories = directories
        self._peers = others
        self._own_pool = own_pool

    def ask(self, instance: str, holder: str, asking_for: str = "",
            overtaken: ty.Collection[str] = ()) -> Evidence:
        """Gather the evidence that the directory of ``instance`` may leave this host.

        :param holder: the host believed to have the guest; a hint, which its
            testimony has to confirm.
        :param asking_for: key of the migration in whose plan the question is
            asked.  The holder's entry of that same migration does not count as
            in flight while it is in a phase that orders nothing from libvirt:
            the holder is then waiting for the asker.
        :param overtaken: keys of migrations that nova-compute has given up, or is as good as
            known to have.  The holder's entries of these do not count as in flight while it
            says itself that the guest never began to move with them.
        """
        return self.ask_all((instance,), holder, asking_for, overtaken)[instance]

    def ask_all(self, instances_: ty.Sequence[str], holder: str, asking_for: str = "",
                overtaken: ty.Collection[str] = ()) -> dict[str, Evidence]:
        """The same for several instances that one host is believed to have, in one call."""
        facts = {instance: [self._libvirt_here(instance)] for instance in instances_}
        states: dict[str, GuestState | None] = {}
        try:
            with probe.lay(self._directories, instances_[0]) as laid:
                testimonies = self._peers.testify_all(holder, {
                    instance: probe.identity(self._directories, instance, laid.nonce)
                    for instance in instances_})
        except errors.Error as e:
            for of_one in facts.values():
                of_one.append(Fact("holder", Verdict.UNKNOWN, str(e)))
        else:
            for testimony, watchers in zip(
                    testimonies.values(), self._all_watchers(testimonies.values()), strict=True):
                instance = testimony.instance
                states[instance] = _known_state(testimony)
                facts[instance] += [self._path(instance, testimony),
                                    _holder(testimony, asking_for, overtaken), *watchers]
        return {instance: Evidence(instance, tuple(found), states.get(instance))
                for instance, found in facts.items()}

    def _libvirt_here(self, instance: str) -> Fact:
        try:
            state = self._hypervisor.state(instance)
        except errors.Error as e:
            return Fact("libvirt here", Verdict.UNKNOWN, str(e))
        if state is GuestState.ABSENT:
            return Fact("libvirt here", Verdict.YES, f"libvirt on this host says {state}")
        hint = (" (if it surely runs elsewhere, virsh undefine removes this definition)"
                if state is GuestState.SHUTOFF else "")
        return Fact("libvirt here", Verdict.NO, f"libvirt on this host says {state}{hint}")

    def _path(self, instance: str, testimony: payloads.Testimony) -> Fact:
        if testimony.sees_nonce:
            return Fact("path", Verdict.NO, f"{testimony.host} sees the same instances_path")
        if testimony.probe is None:
            return Fact("path", Verdict.UNKNOWN, f"{testimony.host} could not look for the nonce")
        return probe.compare(self._directories, instance, testimony.probe)

    def _all_watchers(self, testimonies: ty.Collection[payloads.Testimony],
                      ) -> list[list[Fact]]:
        """What Ceph says of each one's images; several are asked for at the same time."""
        def asked(testimony: payloads.Testimony) -> list[Fact]:
            return list(self._watchers(testimony))
        if len(testimonies) < 2:
            return [asked(testimony) for testimony in testimonies]
        with concurrent.futures.ThreadPoolExecutor(_AT_ONCE, "watchers") as pool:
            return list(pool.map(asked, testimonies))

    def _watchers(self, testimony: payloads.Testimony) -> ty.Iterator[Fact]:
        holder_addresses = frozenset(testimony.addresses)
        if not testimony.images:
            yield Fact("watchers", Verdict.UNKNOWN,
                       f"{testimony.host} names no RBD image of the guest")
            return
        try:
            own = self._images.own_addresses()
            images = [RbdImage(name.pool, name.name) for name in testimony.images]
            yield from self._unnamed(testimony.instance, images, testimony.host)
            for image in images:
                yield _image_fact(image, self._images.watchers(image), own, holder_addresses,
                                  has_qemu=testimony.state in _WITH_QEMU)
        except errors.Error as e:
            yield Fact("watchers", Verdict.UNKNOWN, str(e))


    def _unnamed(self, instance: str, named: ty.Sequence[RbdImage], holder: str,
                 ) -> ty.Iterator[Fact]:
        """Doubt where the guest's disk is there and the holder names others only.

        They may be another guest's, watched from the holder as they should be.
        A guest on volumes alone has no such disk.
        """
        own = RbdImage(self._own_pool, f"{instance}_disk")
        if not self._own_pool or own in named:
            return
        try:
            self._images.watchers(own)
        except errors.ImageMissing:
            return
        yield Fact("watchers", Verdict.NO, f"{holder} does not name {own}, which is the guest's")


def _known_state(testimony: payloads.Testimony) -> GuestState | None:
    """None for a word that this worker does not know, as ``unknown``."""
    try:
        return GuestState(testimony.state)
    except ValueError:
        return None


def _holder(testimony: payloads.Testimony, asking_for: str,
            overtaken: ty.Collection[str]) -> Fact:
    host, state = testimony.host, testimony.state
    if state not in _HELD:
        verdict = Verdict.UNKNOWN if state == "unknown" else Verdict.NO
        return Fact("holder", verdict, f"{host} says {state} {testimony.reason}".rstrip())
    if testimony.job:
        return Fact("holder", Verdict.NO, f"a job runs on the guest on {host}")
    for entry in testimony.entries:
        waits_for_us = entry.migration == asking_for and entry.phase in _AT_REST
        is_overtaken = entry.waits and entry.migration in overtaken
        if not (entry.closed or waits_for_us or is_overtaken):
            return Fact("holder", Verdict.NO,
                        f"migration {entry.migration} is still open on {host}")
    return Fact("holder", Verdict.YES, f"{host} says {state}, no job, nothing in flight")


def _image_fact(image: RbdImage, watchers: frozenset[str], own: frozenset[str],
                holder: frozenset[str], *, has_qemu: bool) -> Fact:
    seen = ", ".join(sorted(watchers)) or "nobody"
    if own & holder:
        return Fact("watchers", Verdict.UNKNOWN,
                    f"both hosts reach Ceph as {', '.join(sorted(own & holder))}")
    if not own or not holder:
        return Fact("watchers", Verdict.UNKNOWN, "the addresses of a Ceph client are not known")
    if watchers & own:
        return Fact("watchers", Verdict.NO, f"{image} is watched from this host ({seen})")
    if has_qemu and not watchers & holder:
        return Fact("watchers", Verdict.NO,
                    f"{image} is not watched from the host that runs the guest ({seen})")
    return Fact("watchers", Verdict.YES, f"{image} is watched by {seen}")
