# SPDX-License-Identifier: Apache-2.0
"""Who answers."""

import typing as ty

import msgspec

from rpcapi.fields import HostName, Moment, Payload, Text


class Description(Payload, frozen=True, kw_only=True):
    """Who answers: for status and for refusing an unfit peer early.

    :ivar started: seconds since the epoch.
    :ivar hearing: state of the tap, for people; empty where there is none.
    :ivar troubles: what is wrong on that host, a sentence each; none from older workers.
    """

    host: HostName
    worker_version: Text
    rpc_version: Text
    executor: Text
    started: Moment = 0
    hearing: Text = ""
    open_entries: ty.Annotated[int, msgspec.Meta(ge=0)] = 0
    unresolved: ty.Annotated[int, msgspec.Meta(ge=0)] = 0
    troubles: ty.Annotated[tuple[Text, ...], msgspec.Meta(max_length=16)] = ()
