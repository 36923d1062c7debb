# SPDX-License-Identifier: Apache-2.0
"""The worker itself: does it hear Nova, is anything open, does the hook ask it?"""

from rbd_worker.model import Executor, Outcome
from rbd_worker.preflight.bench import Bench, Check, Comparison, Rows, Say
from rpcapi import preflight as contract


def _tap(bench: Bench, _request: contract.SurveyRequest, say: Say) -> Rows:
    hearing = bench.hearing()
    if hearing.is_proven:
        yield say.ok(hearing.sentence)
    elif bench.settings.executor is Executor.LIBVIRT:  # there may be no Nova at all
        yield say.warning(hearing.sentence, "See the worker's log if a nova-conductor is to order "
                          "moves here; rbd-workerctl live-migrate does without")
    else:
        yield say.failed(hearing.sentence, "See the worker's log; without the casts of "
                         "nova-conductor it prepares and cleans up nothing")


def _open_entries(bench: Bench, request: contract.SurveyRequest, say: Say) -> Rows:
    entries = bench.journal.open_entries()
    if request.guest is not None:
        entries = [e for e in entries if e.migration.instance == request.guest.instance]
    unresolved = [e for e in entries if e.outcome is Outcome.UNRESOLVED]
    if unresolved:
        first = unresolved[0]
        yield say.warning(f"{len(unresolved)} unresolved, as migration {first.migration.key}: "
                          f"{first.reason}",
                          f"rbd-workerctl migration show {first.migration.key}")
    else:
        yield say.ok(f"{len(entries)} open, none unresolved")


CHECKS = (Check("worker.tap", _tap), Check("worker.migrations", _open_entries))


def _versions(source: contract.Traits, destination: contract.Traits, say: Say) -> Rows:
    ours = f"{source.worker_version} (RPC {source.rpc_version})"
    theirs = f"{destination.worker_version} (RPC {destination.rpc_version})"
    if source.rpc_version.partition(".")[0] != destination.rpc_version.partition(".")[0]:
        yield say.failed(f"{ours} here, {theirs} on {destination.host}",
                         "Upgrade the older worker; they do not understand each other")
    elif ours != theirs:
        yield say.warning(f"{ours} here, {theirs} on {destination.host}",
                          "Upgrade the older worker when it suits; meanwhile set "
                          "rpc_version_cap to the older RPC version")
    else:
        yield say.ok(f"{ours} on both hosts")


def _executors(source: contract.Traits, destination: contract.Traits, say: Say) -> Rows:
    if source.executor == destination.executor:
        yield say.ok(f"{source.executor} on both hosts")
    else:
        yield say.failed(f"{source.executor} here, {destination.executor} on "
                         f"{destination.host}",
                         "Set [rbd_worker] executor alike on all hosts")


COMPARISONS = (Comparison("worker.version", _versions),
               Comparison("worker.executor", _executors))
