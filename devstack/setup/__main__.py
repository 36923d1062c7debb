# SPDX-License-Identifier: Apache-2.0
"""``python3 -m devstack.setup [--embedded] [PROFILE...]``

Profiles are those of bindep.txt (default: all).  With ``--embedded``
nothing but the environment is wanted, and missing packages are no reason to
give up: what can be had is built.
"""

import argparse
import pathlib
import sys

from devstack.setup import environment, packages

CHECKOUT = pathlib.Path(__file__).resolve().parents[2]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m devstack.setup", description=__doc__)
    parser.add_argument("--embedded", action="store_true")
    parser.add_argument("profiles", nargs="*", default=["build", "lab", "test"], metavar="PROFILE")
    arguments = parser.parse_args()
    if sys.version_info < (3, 11):  # noqa: UP036  (a user may start it with anything)
        print("set-up: rbd-worker needs Python 3.11 or newer, this is "
              f"{sys.version.split()[0]}", file=sys.stderr)
        return 1
    profiles = ["build"] if arguments.embedded else arguments.profiles
    log = CHECKOUT / "build/setup.log"
    log.parent.mkdir(exist_ok=True)
    try:
        _packages(profiles, log, arguments.embedded)
        environment.ensure(CHECKOUT, log, partial=arguments.embedded)
    except (packages.CannotInstall, environment.CannotBuild) as e:
        print(f"set-up: {e}", file=sys.stderr)
        return 1
    return 0


def _packages(profiles: list[str], log: pathlib.Path, embedded: bool) -> None:
    wanted = packages.wanted(CHECKOUT / "bindep.txt")
    try:
        packages.ensure([each for each in wanted if each.profile in profiles], log)
    except packages.CannotInstall as e:
        if not embedded:
            raise
        print(f"set-up: {e}\nset-up: going on with what can be had", flush=True)


if __name__ == "__main__":
    sys.exit(main())
