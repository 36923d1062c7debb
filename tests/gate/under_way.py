# SPDX-License-Identifier: Apache-2.0
"""A live migration that is caught in the middle, for as long as a scenario wants."""

from tests.gate.scene import Scene


def on_its_way(scene: Scene) -> str:
    """A server whose memory is under way from node1 to node2, and does not arrive by itself."""
    server = scene.cloud.boot("mover", "node1", image="busy")
    scene.cloud.guest(server).wait_for_console(scene.one)  # in its BIOS it would be at rest
    send(scene, server)
    return server


def send(scene: Scene, server: str) -> None:
    """Order the move of such a server from node1 to node2; its memory is then under way."""
    scene.cloud.live_migrate(server, "node2", wait=False)
    scene.cloud.wait_migrating(server)
    scene.until(lambda: "memory" in _job(scene, server).lower(), "the transfer")


def let_arrive(scene: Scene, server: str) -> None:
    """Lift the limit of the transfer: the guest then arrives at once."""
    scene.one.virsh("migrate-setspeed", server, "2000")
    scene.until(lambda: scene.cloud.guest(server).running_on() == ["node2"], "the arrival")


def _job(scene: Scene, server: str) -> str:
    return scene.one.virsh("domjobinfo", server, check=False)
