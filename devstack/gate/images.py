# SPDX-License-Identifier: Apache-2.0
"""The images that servers boot from: snapshots in Ceph, which Nova clones.

``talkative`` writes a line to its console twice a second; ``busy`` never
stops changing its memory, so that its live migration does not end by itself.
"""

import collections.abc
import dataclasses

from devstack.lab import Lab, bootsector

POOL = "volumes"
SIZE = 4 << 20


@dataclasses.dataclass(frozen=True)
class Image:
    """One image, as glance's stand-in will show it."""

    uuid: str
    name: str
    sector: bytes

    def location(self, fsid: str) -> str:
        return f"rbd://{fsid}/{POOL}/{self.uuid}/snap"


IMAGES: collections.abc.Mapping[str, Image] = {
    image.name: image for image in (
        Image("11111111-2222-4333-8444-555555555555", "talkative", bootsector.talkative()),
        Image("11111111-2222-4333-8444-555555555556", "busy", bootsector.busy()))}


def ensure_in_ceph(lab: Lab) -> None:
    present = lab.images()
    for image in IMAGES.values():
        name = f"{POOL}/{image.uuid}"
        if name in present:
            continue
        lab.rbd("import", "--no-progress", "--image-format", "2", "-", name,
                input=image.sector.ljust(SIZE, b"\0"))
        lab.rbd("snap", "create", "--no-progress", f"{name}@snap")
        lab.rbd("snap", "protect", f"{name}@snap")
