# SPDX-License-Identifier: Apache-2.0
"""libvirt's own test driver with two guests: real API, no QEMU.

Each connection of ``test:///PATH`` has guests of its own, so a test acts
through the connection of the object it tests.
"""

import pathlib

import libvirt

from rbd_worker.host.connection import Connection

RUNNING = "11111111-2222-4333-8444-000000000001"
DEFINED = "11111111-2222-4333-8444-000000000002"
NOBODY = "11111111-2222-4333-8444-00000000000f"

_DOMAIN = """<domain type='test' xmlns:t='http://libvirt.org/schemas/domain/test/1.0'>
  <name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>64</memory><vcpu>1</vcpu>
  <os><type>hvm</type></os>
  <t:runstate>{state}</t:runstate>
  <devices>
    <disk type='network' device='disk'>
      <source protocol='rbd' name='vms/{uuid}_disk'><host name='mon' port='6789'/></source>
      <target dev='vda' bus='virtio'/>
    </disk>
  </devices>
</domain>"""


def write(directory: pathlib.Path) -> str:
    """Write a node with one running and one defined guest; returns its URI."""
    domains = "".join(_DOMAIN.format(name=name, uuid=uuid, state=state) for name, uuid, state in (
        ("runs", RUNNING, 1), ("defined", DEFINED, 5)))
    path = directory / "node.xml"
    path.write_text(f"<node>{domains}</node>")
    return f"test://{path}"


def act(connection: Connection, uuid: str, action: str) -> None:
    """Do something to a guest from outside: ``suspend``, ``destroy``, ``undefine``, ..."""
    def do(libvirtd: libvirt.virConnect) -> None:
        getattr(libvirtd.lookupByUUIDString(uuid), action)()
    connection.ask(do)
