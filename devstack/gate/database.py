# SPDX-License-Identifier: Apache-2.0
"""MariaDB inside the controller, with Nova's schema in it.

Nova's ``db sync`` takes half a minute.  It is run once for each build of
Nova's environment; what it leaves is kept beside the environment and copied
at each start.  The cell mappings are templates that Nova fills from its own
configuration, so that the copy fits every lab.
"""

import pathlib
import shutil
import typing as ty

from devstack.gate import environment, settings
from devstack.lab import Lab, LabError, Service
from devstack.lab.processes import wait_until

DIRECTORY = "/var/lib/nova/mariadb"
SOCKET = "/run/mariadb.sock"

_CELL = "{scheme}://{username}:{password}@{hostname}:{port}/%s?{query}"
_BROKER = "{scheme}://{username}:{password}@{hostname}:{port}/{path}"

#: Nothing here has to survive a crash of the machine.
_OPTIONS = ("--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=0",
            "--innodb-buffer-pool-size=128M", "--innodb-log-file-size=32M",
            "--skip-log-bin", "--skip-name-resolve", "--max-connections=300")


def service(lab: Lab) -> Service:
    return Service(lab.controller, "mariadb", (
        "/usr/sbin/mariadbd", "--no-defaults", "--user=root", f"--datadir={DIRECTORY}",
        f"--socket={SOCKET}", f"--port={settings.DATABASE_PORT}",
        f"--bind-address={lab.controller.address}", *_OPTIONS))


def start(lab: Lab) -> None:
    """Start it with Nova's schema; the first time after a build that is made first."""
    place = lab.controller.root / DIRECTORY.lstrip("/")
    if place.exists():
        _serve(lab)
        return
    if not environment.DATABASE_SEED.is_dir():
        _make_seed(lab, place)
        return
    shutil.copytree(environment.DATABASE_SEED, place)
    _serve(lab)


def _make_seed(lab: Lab, place: pathlib.Path) -> None:
    lab.controller.run(
        ["mariadb-install-db", "--no-defaults", "--user=root", f"--datadir={DIRECTORY}",
         "--auth-root-authentication-method=normal", "--skip-test-db"], timeout=120)
    _serve(lab)
    _sql(lab, "".join(
        f"CREATE DATABASE {name} CHARACTER SET utf8mb3; "
        f"GRANT ALL ON {name}.* TO 'nova'@'%' IDENTIFIED BY 'nova'; "
        for name in settings.DATABASES))
    _sync(lab)
    service(lab).stop()
    fresh = environment.DATABASE_SEED.with_name("database.new")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(place, fresh)
    fresh.rename(environment.DATABASE_SEED)
    _serve(lab)


def _sync(lab: Lab) -> None:
    manage(lab, "api_db", "sync", seconds=300)
    manage(lab, "cell_v2", "map_cell0", "--database_connection", _CELL % "nova_cell0")
    manage(lab, "cell_v2", "create_cell", "--name", "one",
           "--database_connection", _CELL % "{path}", "--transport-url", _BROKER)
    manage(lab, "db", "sync", seconds=300)
    lab.controller.run([environment.program("placement-manage"), "--config-file",
                        f"{settings.PLACEMENT_DIRECTORY}/placement.conf", "db", "sync"],
                       timeout=120)


def manage(lab: Lab, *argv: str, seconds: float = 60) -> str:
    """What ``nova-manage ARGV`` prints."""
    return lab.controller.run(
        [environment.program("nova-manage"), "--config-file", settings.NOVA_CONF,
         "--config-file", settings.DATABASE_CONF, "--nodebug", *argv], timeout=seconds).stdout


def _serve(lab: Lab) -> None:
    one = service(lab)
    one.start()
    wait_until(lambda: _answers(lab), 60, "MariaDB", one.log,
               failed=lambda: not one.is_running())


def _answers(lab: Lab) -> bool:
    try:
        _sql(lab, "SELECT 1")
    except LabError:
        return False
    return True


def _sql(lab: Lab, statements: str) -> str:
    done: ty.Any = lab.controller.run(
        ["mariadb", "--no-defaults", "--user=root", f"--socket={SOCKET}"], input=statements)
    return str(done.stdout)
