# SPDX-License-Identifier: Apache-2.0
"""``rbd-workerctl hook``: libvirt's hook for arriving guests."""

import argparse
import time
import typing as ty

from rbd_worker import conf, hook
from rbd_worker.cli import base
from rbd_worker.host import hook_files

_RESTART = ("{name} (process {pid}) was started before any hook was there and does not call it: "
            "restart {name}; guests run on meanwhile")


class HookInstall(base.Command):
    """Install libvirt's hook, or bring it up to date; a foreign file is never overwritten."""

    examples = ("hook install",)

    def take_action(self, _parsed: argparse.Namespace) -> None:
        files, daemon = _files(self.control.settings), hook_files.daemon()
        is_seen = daemon is not None and files.is_seen_by(daemon)
        was_changed = files.install()
        path = files.installed().path
        print(f"{path} {'is installed' if was_changed else 'is there already, nothing to do'}",
              file=self.app.stdout)
        if daemon is not None and not is_seen and not files.is_seen_by(daemon):
            print(_RESTART.format(name=daemon.name, pid=daemon.pid), file=self.app.stdout)


class HookRemove(base.Command):
    """Remove libvirt's hook; a foreign file is left alone."""

    examples = ("hook remove",)

    def take_action(self, _parsed: argparse.Namespace) -> None:
        files = _files(self.control.settings)
        path = files.installed().path
        print(f"{path} {'is removed' if files.remove() else 'was not there'}",
              file=self.app.stdout)


class HookStatus(base.ShowOne):
    """Show whether libvirt's hook is installed and seen, and whether the worker answers it."""

    examples = (
        "hook status",
        "hook status -f json",
    )

    def take_action(self, _parsed: argparse.Namespace) -> tuple[ty.Any, ty.Any]:
        settings = self.control.settings
        files = _files(settings)
        installed = files.installed()
        answer, asked = _ping(settings)
        rows = {"path": str(installed.path), "installed": _how(installed),
                "executable": "yes" if installed.is_executable else "no",
                "libvirt": _seen(files, installed, asked), "socket": settings.hook_socket,
                "worker": answer, "last guest that arrived": base.when(asked or None)}
        return tuple(rows), tuple(rows.values())


def _files(settings: conf.Settings) -> hook_files.HookFiles:
    return hook_files.of(settings, hook_files.libvirt_version())


def _how(installed: hook_files.Installed) -> str:
    if installed.is_foreign:
        return "no: another program is there, which is left alone"
    if not installed.is_there:
        return "no: run 'rbd-workerctl hook install'"
    if not installed.is_current:
        return "yes, but of another version or configuration: run 'rbd-workerctl hook install'"
    return "yes"


def _seen(files: hook_files.HookFiles, installed: hook_files.Installed, asked: float) -> str:
    daemon = hook_files.daemon()
    if daemon is None:
        return "does not run, or not in sight of this command"
    if not installed.is_there:
        return f"{daemon.name} runs (process {daemon.pid})"
    if files.is_seen_by(daemon) or asked > daemon.started:
        return f"{daemon.name} (process {daemon.pid}) calls it"
    return _RESTART.format(name=daemon.name, pid=daemon.pid)


def _ping(settings: conf.Settings) -> tuple[str, float]:
    """What the worker answers, and when a guest's hook asked it last (0 for never)."""
    began = time.monotonic()
    try:
        answer = hook.ask(settings.hook_socket, hook_files.owner(settings), b"ping", b"",
                          began + settings.hook_timeout)
    except hook.Unanswered as e:
        if isinstance(e.__cause__, PermissionError):
            return "cannot be asked: only root and the worker's user may", 0.0
        if isinstance(e.__cause__, ConnectionRefusedError):
            return "no answer: nobody listens on the socket (does rbd-worker run?)", 0.0
        return f"no answer: {e}", 0.0
    took = (time.monotonic() - began) * 1000
    version, _, asked = hook.printable(answer.text).partition(" ")
    return f"answers in {took:.1f} ms, version {version}", float(asked or 0)
