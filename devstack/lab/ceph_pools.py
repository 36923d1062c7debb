# SPDX-License-Identifier: Apache-2.0
"""Register the OSD (``osd UUID``) or make the pools (``pools NAME,NAME``).

Runs inside the controller with Debian's own Python, since rados and rbd are
extension modules of Debian's packages.
"""

import json
import sys
import typing as ty

import rados
import rbd


def command(cluster: ty.Any, **fields: object) -> None:
    status, _, message = cluster.mon_command(json.dumps(fields), b"")
    if status:
        sys.exit(f"{fields['prefix']}: {message}")


def main() -> None:
    what, value = sys.argv[1:]
    with rados.Rados(conffile="/etc/ceph/ceph.conf", name="client.admin") as cluster:
        if what == "osd":
            command(cluster, prefix="osd create", uuid=value, id=0)
            return
        for pool in value.split(","):
            command(cluster, prefix="osd pool create", pool=pool, pg_num=8)
        for pool in value.split(","):
            with cluster.open_ioctx(pool) as ioctx:
                rbd.RBD().pool_init(ioctx, True)


if __name__ == "__main__":
    main()
