# SPDX-License-Identifier: Apache-2.0
"""What the tests of casts share: two instances, and the form before objects."""

import typing as ty

from tests.fixtures import wire

INSTANCE = "a05482ec-d71a-48c7-bf99-94d829b20aef"
ABORTED = "5fc717eb-8add-4f06-a2a0-5126081deb02"


def icehouse(**args: ty.Any) -> wire.Message:
    """``live_migration`` before objects: plain dicts, no migration record."""
    return {"method": "live_migration", "version": "3.0",
            "_unique_id": "0f3e0c5ddcb74e0f9c3f6a0c8d8c1a11",
            "args": {"instance": {"uuid": INSTANCE, "host": "old1", "id": 3, "name": "i-3"},
                     "dest": "old2", "block_migration": False, "migrate_data": {}} | args}
