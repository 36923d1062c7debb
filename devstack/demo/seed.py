# SPDX-License-Identifier: Apache-2.0
"""The two failures this project began with, shown without any worker."""

import os

from rich.console import Console

from devstack import lab as labs


def show(lab: labs.Lab, console: Console) -> bool:
    """Show both on a guest of its own; True where both were seen as expected."""
    source, destination = lab.host("node1"), lab.host("node2")
    guest = lab.define_guest(source, talkative=True)
    try:
        return (_no_directory(guest, source, destination, console)
                and _leftover_blocks(guest, source, destination, console))
    finally:
        guest.destroy()


def _no_directory(guest: labs.Guest, source: labs.Host, destination: labs.Host,
                  console: Console) -> bool:
    console.print("1. nobody makes the instance directory on the destination:")
    try:
        guest.migrate(source, destination)
    except labs.CommandFailed as e:
        reason = next((line for line in str(e).splitlines() if "console.log" in line), str(e))
        console.print(f"   [red]virsh migrate fails[/]: {reason.strip()}", highlight=False)
        return "No such file or directory" in str(e)
    console.print("   the migration worked, which was not expected")
    return False


def _leftover_blocks(guest: labs.Guest, source: labs.Host, destination: labs.Host,
                     console: Console) -> bool:
    guest.directory(destination).mkdir()
    guest.migrate(source, destination)
    left = sorted(path.name for path in guest.directory(source).iterdir())
    console.print(f"2. made by hand it works, but {source.name} keeps the directory "
                  f"({', '.join(left)}). On the way back nova-compute makes it and fails:")
    try:
        os.mkdir(guest.directory(source))
    except FileExistsError:
        console.print("   [red]DestinationDiskExists[/]: the supplied disk path "
                      f"/var/lib/nova/instances/{guest.uuid} already exists", highlight=False)
        return True
    return False
