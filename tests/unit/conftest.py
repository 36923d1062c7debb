# SPDX-License-Identifier: Apache-2.0
"""For the unit tests: small worlds on a temporary disk."""

import typing as ty

import pytest
from oslo_config import cfg
from oslo_log import formatters
from oslo_log import log as oslo_log

from tests.world import Host, World

MakeWorld = ty.Callable[..., World]


def oslo_formatter() -> formatters.ContextFormatter:
    """What writes the lines of the worker's log file where nothing is configured."""
    config = cfg.ConfigOpts()
    oslo_log.register_options(config)
    config([])
    return formatters.ContextFormatter(config=config)


@pytest.fixture
def make_world(tmp_path_factory: pytest.TempPathFactory) -> ty.Iterator[MakeWorld]:
    """``make_world(executor, hosts=2, **settings)``; closed after the test.

    Its path is short, because a socket's name has to fit into 107 bytes.
    """
    made: list[World] = []
    home = tmp_path_factory.mktemp("w")

    def make(executor: str, hosts: int = 2, **changes: ty.Any) -> World:
        made.append(World(home / f"world{len(made)}", executor, hosts, **changes))
        return made[-1]
    yield make
    for world in made:
        world.close()


@pytest.fixture
def here(world: World) -> Host:
    """The first host of the test's own ``world``, where its guest begins."""
    return world.hosts[0]


@pytest.fixture
def there(world: World) -> Host:
    """The second one."""
    return world.hosts[1]
