# SPDX-License-Identifier: Apache-2.0
"""The trash as an operator reads it, on this host or from another one."""

from rbd_worker.host.trash import Item, Trash
from rpcapi import trash as contract


class TrashPages:
    """Answers from the disk, also where no worker runs.

    :raises errors.Error: it cannot be read.
    """

    def __init__(self, host: str, trash: Trash) -> None:
        self._host = host
        self._trash = trash

    def page(self, request: contract.TrashRequest) -> contract.TrashReply:
        """One page of items, newest first, with the sums of all."""
        items = self._trash.list()
        return contract.TrashReply(
            host=self._host, total=len(items), bytes=sum(item.bytes for item in items),
            most=self._trash.most(),
            items=tuple(map(_told, items[request.skip:request.skip + request.limit])))


def _told(item: Item) -> contract.TrashItem:
    at = item.at if item.at < float("inf") else 0.0  # JSON has no infinity
    return contract.TrashItem(
        id=item.id, instance=item.instance, at=at, migration=item.migration[:1024],
        bytes=item.bytes, reason=item.reason[:1024], is_proven=not item.doubt)
