# SPDX-License-Identifier: Apache-2.0
"""libvirt's hook on this host: is it there, is it called, how long does a guest wait?"""

import os
import pathlib
import stat
import time

from rbd_worker import hook
from rbd_worker.host import confinement, hook_files
from rbd_worker.preflight.bench import Bench, Check, Rows, Say
from rpcapi import preflight as contract

#: Milliseconds that a guest may well wait before its QEMU starts.
SLOW_MS = 100.0
_INSTALL = "Run 'rbd-workerctl hook install' on this host"


def _files(bench: Bench) -> hook_files.HookFiles:
    counted = bench.versions().libvirt
    return hook_files.of(bench.settings, (counted // 1_000_000, counted // 1000 % 1000))


def _installed(bench: Bench, _request: contract.SurveyRequest, say: Say) -> Rows:
    if not bench.settings.hook_actions:
        yield say.ok("hook_actions is empty: no hook is wanted")
        return
    found = _files(bench).installed()
    if found.is_foreign:
        yield say.failed(f"{found.path} is another program", "Rename it to a name of its own in "
                         "hooks/qemu.d, then 'rbd-workerctl hook install'")
    elif not found.is_there:
        yield say.warning(f"{found.path} is not there: a guest comes in unseen", _INSTALL)
    elif not found.is_executable:
        yield say.failed(f"{found.path} is not executable: libvirt does not call it", _INSTALL)
    elif not found.is_current:
        yield say.warning(f"{found.path} is of another version or configuration", _INSTALL)
    else:
        yield say.ok(f"{found.path} is executable and current")


def _owner(bench: Bench, _request: contract.SurveyRequest, say: Say) -> Rows:
    """libvirt runs it as root: whoever may write to it is root."""
    found = _files(bench).installed()
    if not found.is_there:
        return
    for path in (found.path.parent, found.path):
        status = os.stat(path)
        if status.st_uid != 0 or status.st_mode & 0o022:
            yield say.failed(f"{path} belongs to user {status.st_uid} with mode "
                             f"{stat.S_IMODE(status.st_mode):o}, and libvirt runs it as root",
                             f"chown root: {path}; chmod go-w {path}")
            return
    yield say.ok(f"{found.path} belongs to root alone")


def _seen(bench: Bench, _request: contract.SurveyRequest, say: Say) -> Rows:
    files = _files(bench)
    if not files.installed().is_there:
        return
    daemon = hook_files.daemon()
    if daemon is None:
        yield say.unknown("libvirt's daemon is not in sight of this worker")
    elif files.is_seen_by(daemon):
        yield say.ok(f"{daemon.name} (process {daemon.pid}) was started with a hook there")
    else:
        yield say.warning(f"{daemon.name} (process {daemon.pid}) is older than every hook: "
                          "it does not call them",
                          f"Restart {daemon.name}; guests run on meanwhile")


def _allowed(bench: Bench, _request: contract.SurveyRequest, say: Say) -> Rows:
    """libvirt fails a guest whose hook it finds and cannot start."""
    found, daemon = _files(bench).installed(), hook_files.daemon()
    if not found.is_there:
        return
    if os.statvfs(found.path).f_flag & os.ST_NOEXEC:
        yield say.failed(f"{found.path} is on a file system that is mounted noexec: no guest "
                         "starts or arrives", "mount -o remount,exec, or 'rbd-workerctl hook "
                         "remove' and a restart of libvirt's daemon")
    elif not os.access(hook_files.PYTHON, os.X_OK):
        yield say.warning(f"{hook_files.PYTHON} is not there: the hook lets guests in unseen",
                          "Install the distribution's python3")
    elif asked := _last_asked(bench):
        when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(asked))
        yield say.ok(f"libvirt ran it for a guest at {when}")
    elif daemon is None:
        yield say.unknown("libvirt's daemon is not in sight of this worker")
    else:
        yield _by_policy(found.path, daemon, say)


def _by_policy(path: pathlib.Path, daemon: hook_files.Daemon, say: Say) -> contract.Row:
    try:
        label = confinement.of(daemon.pid)
    except OSError as e:
        return say.unknown(f"the kernel does not tell what confines {daemon.name}: {e.strerror}")
    if label:
        return say.unknown(f"{daemon.name} is confined as {label}, and no guest has arrived since "
                           f"the worker's start that would show whether it may run {path}",
                           "Move a guest here that nobody needs; where it fails, see 'ausearch "
                           "-m avc -ts recent' or 'journalctl -k -g DENIED'")
    return say.ok(f"neither SELinux nor AppArmor confines {daemon.name}, and {path} can be run")


def _last_asked(bench: Bench) -> float:
    """When libvirt's hook asked this worker about a guest; 0 for never since its start."""
    if not bench.settings.hook_actions:
        return 0.0
    try:
        answer = hook.ask(bench.settings.hook_socket, hook_files.owner(bench.settings), b"ping",
                          b"", time.monotonic() + min(bench.settings.hook_timeout, 1.0))
    except hook.Unanswered:
        return 0.0  # the row hook.latency tells
    return float(hook.printable(answer.text).partition(" ")[2] or 0)


def _latency(bench: Bench, _request: contract.SurveyRequest, say: Say) -> Rows:
    settings = bench.settings
    if not settings.hook_actions:
        return
    began = time.monotonic()
    try:
        hook.ask(settings.hook_socket, hook_files.owner(settings), b"ping", b"",
                 began + min(settings.hook_timeout, 1.0))
    except hook.Unanswered as e:
        yield say.failed(f"the worker does not answer its hook: {e}",
                         "Restart rbd-worker; see who owns the directory of hook_socket")
        return
    took = (time.monotonic() - began) * 1000
    if took > SLOW_MS:
        yield say.warning(f"the socket answers in {took:.1f} ms", "See what loads this host: "
                          "each arriving guest waits for that")
    else:
        yield say.ok(f"the socket answers in {took:.1f} ms")


CHECKS = (Check("hook.installed", _installed), Check("hook.owner", _owner),
          Check("hook.seen", _seen), Check("hook.allowed", _allowed),
          Check("hook.latency", _latency))
