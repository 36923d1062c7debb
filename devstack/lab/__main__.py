# SPDX-License-Identifier: Apache-2.0
"""``python3 -m devstack.lab up|down|status|shell HOST|exec HOST -- COMMAND``"""

import argparse
import os
import sys
import time

from devstack import lab
from devstack.lab import layout


def _up(arguments: argparse.Namespace) -> int:
    began = time.monotonic()
    one = lab.up(on_progress=lambda line: print(line, flush=True),
                 broker_nodes=arguments.broker_nodes)
    print(f"{time.monotonic() - began:5.1f} s  the lab is up: {one.root}, "
          f"guests run under {one.virt_type}")
    print("         try: make lab-shell HOST=node1")
    return 0


def _down(_: argparse.Namespace) -> int:
    print("the lab is gone" if lab.down() else "there is no lab")
    return 0


def _status(_: argparse.Namespace) -> int:
    one = lab.attach()
    broken = lab.faults(one)
    for name, host in one.hosts.items():
        print(f"{name:9} {host.address:13} {len(host.pids())} processes, private files in "
              f"{host.root}")
    for each in one.computes:
        for line in each.host.virsh("list", "--all", check=False).splitlines():
            print(f"{each.host.name:9} guest {' '.join(line.split())}")
    print(f"broker    {one.broker_url}")
    print("\n".join(broken) or "all parts answer")
    return 1 if broken else 0


def _enter(arguments: argparse.Namespace) -> int:
    host = lab.attach().host(arguments.host)
    argv = arguments.command or ["bash", "--norc"]
    environment = {**os.environ, "PS1": f"[lab {host.name}] \\w# ", "HOME": "/root"}
    os.execvpe("nsenter", host.command(argv), environment)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python3 -m devstack.lab", description=lab.__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, action, text in (("up", _up, "start it, or say that it runs"),
                               ("down", _down, "end it without a trace"),
                               ("status", _status, "say what runs"),
                               ("shell", _enter, "open a shell on a host"),
                               ("exec", _enter, "run a command on a host")):
        command = commands.add_parser(name, help=text)
        command.set_defaults(action=action, command=[])
        if action is _enter:
            command.add_argument("host", choices=layout.hosts(max(layout.BROKER_NODES)))
        if action is _up:
            command.add_argument("--broker-nodes", type=int, choices=layout.BROKER_NODES,
                                 help="nodes of RabbitMQ; 3 form a cluster (default: 1)")
        if name == "exec":
            command.add_argument("command", nargs="+")
    return parser


def main() -> int:
    arguments = _parser().parse_args()
    try:
        return int(arguments.action(arguments))
    except lab.LabError as e:
        print(f"lab: {e}", file=sys.stderr)
    except KeyboardInterrupt:
        print("lab: interrupted", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
