# SPDX-License-Identifier: Apache-2.0
"""``rbd-worker``: the process beside nova-compute.

Reads nova.conf and its own file, builds the :class:`rbd_worker.worker.Worker`
and runs it until SIGTERM or SIGINT.  Exit status 0 after a stop on request, 1
where the start is refused, with one sentence that names cause and remedy.
"""

import logging
import os
import pathlib
import re
import signal
import sys
import threading
import typing as ty

from oslo_config import cfg
from oslo_log import log as oslo_log

from rbd_worker import conf, errors, log_lines, request_context, streams, systemd
from rbd_worker.host import separation
from rbd_worker.version import VERSION

LOG = logging.getLogger(__name__)

#: Read where none are given on the command line, as far as they exist.
CONFIG_FILES = ("/etc/nova/nova.conf", "/etc/rbd-worker/rbd-worker.conf")

#: A signal that a thread of librados takes, or that comes right before the main thread
#: begins to wait, does not wake it: Python acts on it when the main thread wakes next.
_SIGNAL_SECONDS = 1.0

_DESCRIPTION = """\
The sidecar beside nova-compute for live migration of guests on Ceph RBD. It \
reads nova.conf and needs no setting of its own to work."""
#: One line: oslo.config breaks lines as it likes.
_EXAMPLE = ("Example: rbd-worker --debug --config-file /etc/nova/nova.conf "
            "--config-file /etc/rbd-worker/rbd-worker.conf")


def load(arguments: ty.Sequence[str], prog: str = "rbd-worker") -> conf.Settings:
    """Read the configuration into ``cfg.CONF`` and check it.

    The global ``cfg.CONF`` is used because oslo.messaging reads its tracing
    options from there only.

    :raises errors.BadConfiguration: with the option's name and the remedy.
    """
    config = cfg.CONF
    oslo_log.register_options(config)
    oslo_log.set_defaults(default_log_levels=[
        *oslo_log.get_default_log_levels(), "oslo.messaging=INFO", "kombu=WARN"])
    conf.register(config)
    try:
        config(list(arguments), project="rbd-worker", prog=prog, version=VERSION,
               description=_DESCRIPTION, epilog=_EXAMPLE,
               default_config_files=[f for f in CONFIG_FILES if pathlib.Path(f).exists()])
    except cfg.ConfigFilesNotFoundError as e:
        raise errors.BadConfiguration(
            option="--config-file", reason=str(e), fix="Give files that exist") from e
    except cfg.ConfigDirNotFoundError as e:
        raise errors.BadConfiguration(
            option="--config-dir", reason=str(e), fix="Give directories that exist") from e
    except cfg.ConfigFilesPermissionDeniedError as e:
        raise errors.BadConfiguration(
            option="--config-file", reason=str(e),
            fix=f"Run {prog} as a user that may read them: root, or nova-compute's") from e
    except (cfg.ConfigFileParseError, cfg.ConfigFileValueError) as e:
        raise _unfit(e) from None
    except SystemExit as e:
        if not isinstance(e.code, str):  # a wrong command line, or its help
            raise
        raise errors.BadConfiguration(option="in a file", reason=e.code,
                                      fix="Correct it there") from None
    except UnicodeDecodeError as e:
        raise errors.BadConfiguration(
            option="--config-file", reason=f"{_undecodable(arguments)} is no {e.encoding} text",
            fix="Give files of text, or correct it there") from None
    except OSError as e:  # a directory, a loop of links, a disk that cannot be read
        raise errors.BadConfiguration(
            option="--config-file", reason=f"{e.filename} cannot be read: {e.strerror}",
            fix="Give files of text") from e
    return conf.settings(config)


def files_read() -> str:
    """Which files made the configuration, for a sentence."""
    files = [*(cfg.CONF.config_file or ()), *(cfg.CONF.config_dir or ())]
    return f"read: {', '.join(files)}" if files else "no configuration file was found"


def _undecodable(arguments: ty.Iterable[str]) -> str:
    """Which file it is, which neither Python nor oslo.config tells."""
    for word in (*arguments, *CONFIG_FILES):
        path = word.removeprefix("--config-file=")
        try:
            pathlib.Path(path).read_text()
        except UnicodeDecodeError:
            return path
        except (OSError, ValueError):  # it is no file's name
            continue
    return "one of the files"


def _unfit(e: Exception) -> errors.BadConfiguration:
    return errors.BadConfiguration(option="in a file", reason=_without_the_line(e),
                                   fix="Correct it there")


def _without_the_line(e: Exception) -> str:
    """oslo.config quotes the line that it cannot read, which may be a password's second half."""
    if isinstance(e, cfg.ConfigFileParseError):
        return re.sub(r": (['\"]).*\Z", "", str(e), flags=re.DOTALL)
    return str(e)


def main(arguments: ty.Sequence[str] | None = None) -> int:
    streams.ensure_open()
    try:
        settings = load(sys.argv[1:] if arguments is None else arguments)
    except errors.Error as e:  # before there is a log
        print(f"rbd-worker: {e.sentence}", file=sys.stderr)
        return 1
    try:
        separated = separation.separate(None if settings.is_idle else settings.instances_path)
        # afterwards only, so that the other process neither holds the log nor has its level
        _open_log()
    except errors.Error as e:
        print(f"rbd-worker: {e.sentence}", file=sys.stderr)
        return 1
    separated.tell()
    refusal = _serve(settings)
    if refusal is None:
        return 0
    LOG.error("rbd-worker does not start: %s", refusal)
    return 1


def _open_log() -> None:
    """:raises errors.BadConfiguration: it cannot be written, or is not configured well."""
    try:
        oslo_log.setup(cfg.CONF, "rbd-worker", VERSION)
    except (OSError, oslo_log.LogConfigError, cfg.ConfigFileValueError) as e:
        raise errors.BadConfiguration(
            option="[DEFAULT] log_file, log_dir or log_config_append", reason=str(e),
            fix="Name files that the worker's user may write, or none for standard error") from e
    request_context.mark_log()
    log_lines.tell_errors_once()


def _serve(settings: conf.Settings) -> str | None:
    """Until a signal; the sentence where the start is refused."""
    from rbd_worker.insight import guru

    try:
        stopped = _stop_on_signals()
        guru.on_signal(cfg.CONF)
        if settings.is_idle:
            LOG.warning("%s", errors.WorkerIdle(host=settings.host, files=files_read()).sentence)
            _stay(systemd.Notifier(), lambda: None, lambda: "idle: images_type is not rbd",
                  stopped)
            return None
        _run(settings, stopped)
    except cfg.ConfigFileValueError as e:  # of a library's option, which reads it late
        return _unfit(e).sentence
    except errors.Error as e:
        return e.sentence


def _run(settings: conf.Settings, stopped: threading.Event) -> ty.NoReturn:
    # imported late: a wrong option is told before half a second of imports
    from rbd_worker import worker as workers
    from rbd_worker.insight import guru
    from rbd_worker.triggers import broker
    from rpcapi import client as rpc_client

    workers.raise_descriptor_limit()
    broker_settings = broker.from_conf(cfg.CONF)  # refuses a transport_url that is none
    worker = workers.Worker(settings, rpc_client.transport_for(cfg.CONF), broker_settings)
    guru.add("Worker", worker.condition.in_brief)
    guru.add("Open migrations", worker.condition.open_in_brief)
    worker.start()
    LOG.info("rbd-worker %s starts on %s, executor %s", VERSION, settings.host,
             settings.executor)
    threading.Thread(target=_tell_when_ready, args=(worker, stopped), daemon=True).start()
    _stay(systemd.Notifier(), worker.condition.ailment, lambda: worker.condition.hearing, stopped)
    LOG.info("rbd-worker stops; open migrations stay in the journal")
    worker.stop()
    logging.shutdown()
    os._exit(0)  # a thread that still waits for a peer may not hold up the end


def _stay(notifier: systemd.Notifier, ailment: ty.Callable[[], str | None],
          status: ty.Callable[[], str], stopped: threading.Event) -> None:
    """Until SIGTERM, with systemd knowing how it goes.

    Ready is said now, whoever else is still away: nova-compute must not wait
    for a broker on account of the worker.
    """
    watchdog = systemd.Watchdog(notifier, ailment, status)
    notifier.ready(status())
    watchdog.start()
    while not stopped.wait(_SIGNAL_SECONDS):
        pass
    notifier.stopping()
    watchdog.stop()


def _tell_when_ready(worker: ty.Any, stopped: threading.Event) -> None:
    said = ""
    while not stopped.is_set():
        if worker.wait_ready(5):
            LOG.info("rbd-worker is ready: %s", worker.condition.hearing)
            return
        if worker.condition.hearing != said:
            said = worker.condition.hearing
            LOG.warning("rbd-worker is not ready yet: %s", said)


def _stop_on_signals() -> threading.Event:
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a reload: nothing is read again
    return stopped


if __name__ == "__main__":
    sys.exit(main())
