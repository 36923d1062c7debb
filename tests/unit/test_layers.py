# SPDX-License-Identifier: Apache-2.0
"""Imports point down only, and each foreign library has one home.

Read from the source with ``ast``, so that imports inside functions count too.
"""

import ast
import pathlib
import sys
import typing as ty

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]

#: From the top to the bottom; a file may import from its own layer and from lower ones.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("rbd_worker.cli",),
    ("rbd_worker.report",),
    ("rbd_worker.service",),
    ("rbd_worker.worker",),
    ("rbd_worker.condition",),
    ("rbd_worker.insight",),
    ("rbd_worker.triggers",),
    ("rbd_worker.preflight", "rbd_worker.snapshots"),
    ("rbd_worker.migration",),
    ("rbd_worker.host",),
    ("rpcapi",),
    ("rbd_worker.retries", "rbd_worker.periodic", "rbd_worker.conf", "rbd_worker.news"),
    ("rbd_worker.model",),
    ("rbd_worker.catalogue",),
    ("rbd_worker.errors", "rbd_worker.version", "rbd_worker.systemd", "rbd_worker.vitals",
     "rbd_worker.request_context", "rbd_worker.log_lines", "rbd_worker.streams"),
)

#: Where a library may be imported; whoever else needs it asks these files.
HOMES: dict[str, tuple[str, ...]] = {
    "kombu": ("rbd_worker.triggers.",),
    "amqp": ("rbd_worker.triggers.",),
    "oslo_messaging": ("rpcapi.", "rbd_worker.triggers.peer_server", "rbd_worker.triggers.edge",
                       "rbd_worker.triggers.preflight_endpoint",
                       "rbd_worker.triggers.control_endpoint",
                       "rbd_worker.triggers.history_endpoint",
                       "rbd_worker.triggers.snapshot_endpoint",
                       "rbd_worker.triggers.broker", "rbd_worker.worker",
                       "rbd_worker.insight.notifying"),
    "oslo_privsep": ("rbd_worker.host.privileged", "rbd_worker.host.separation"),
    "oslo_service": ("rpcapi",),
    "libvirt": ("rbd_worker.host.", "rbd_worker.triggers.domain_events"),
    "rados": ("rbd_worker.host.rbd",),
    "rbd": ("rbd_worker.host.rbd",),
    "sqlite3": ("rbd_worker.migration.journal", "rbd_worker.migration.journal_file",
                "rbd_worker.migration.journal_reader"),
    "jinja2": ("rbd_worker.report.page",),
    "markupsafe": ("rbd_worker.report.",),
    "cliff": ("rbd_worker.cli.",),
    "tenacity": ("rbd_worker.retries", "rbd_worker.migration.proof", "rbd_worker.triggers.",
                 "rbd_worker.host."),
    "openstack": ("rbd_worker.host.nova_api",),
    "keystoneauth1": ("rbd_worker.host.nova_api",),
    "prometheus_client": ("rbd_worker.insight.",),
    "oslo_reports": ("rbd_worker.insight.guru",),
    "eventlet": (),
    "pika": (),
}
#: Of the directories named above, the files that may not.
NOT_THERE: dict[str, tuple[str, ...]] = {
    "kombu": ("casts", "envelope", "hearing", "peer_server", "domain_events"),
    "libvirt": ("instances", "walk", "digest", "staging", "trash", "console", "probe", "evidence",
                "peers", "rbd", "syscalls"),
}


class Module(ty.NamedTuple):
    name: str
    path: pathlib.Path
    imports: frozenset[str]


def _modules() -> list[Module]:
    found = []
    for path in sorted([*ROOT.glob("rbd_worker/**/*.py"), *ROOT.glob("rpcapi/**/*.py")]):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found.append(Module(name, path, frozenset(_imports(path.read_text()))))
    return found


def _imports(source: str) -> ty.Iterator[str]:
    """Dotted names as imported; ``from a import b`` gives ``a.b``, which may be a module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the direction"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _level(name: str) -> int | None:
    """0 is the top; None for what is not ours or belongs to no layer (a bare package)."""
    for level, names in enumerate(LAYERS):
        if any(name == own or name.startswith(own + ".") for own in names):
            return level
    return None


MODULES = _modules()
IDS = [module.name for module in MODULES]


def test_the_source_was_found() -> None:
    names = set(IDS)
    assert {"rbd_worker.migration.engine", "rpcapi.client", "rbd_worker.cli.app"} <= names


@pytest.mark.parametrize("module", MODULES, ids=IDS)
def test_every_module_belongs_to_a_layer(module: Module) -> None:
    if module.name in ("rbd_worker", "rbd_worker.hook"):  # the hook stands alone
        return
    assert _level(module.name) is not None


@pytest.mark.parametrize("module", MODULES, ids=IDS)
def test_imports_point_down_only(module: Module) -> None:
    own = _level(module.name)
    upward = [name for name in module.imports
              if own is not None and (other := _level(name)) is not None and other < own]
    assert upward == []


@pytest.mark.parametrize("module", [m for m in MODULES if m.name.startswith("rpcapi")],
                         ids=lambda m: m.name)
def test_the_contract_imports_nothing_of_the_worker(module: Module) -> None:
    assert [name for name in module.imports if name.split(".")[0] == "rbd_worker"] == []


def test_the_hook_needs_nothing_but_the_standard_library() -> None:
    hook = {name for m in MODULES if m.name == "rbd_worker.hook" for name in m.imports}
    assert {name for name in hook if name.split(".")[0] not in sys.stdlib_module_names} == set()


@pytest.mark.parametrize("library", sorted(HOMES))
def test_each_library_has_one_home(library: str) -> None:
    strangers = [m.name for m in MODULES
                 if any(name.split(".")[0] == library for name in m.imports)
                 and not _may_have(library, m.name)]
    assert strangers == []


def _may_have(library: str, name: str) -> bool:
    at_home = any(name == home or (home.endswith(".") and name.startswith(home))
                  for home in HOMES[library])
    return at_home and name.rpartition(".")[2] not in NOT_THERE.get(library, ())


def test_configuration_is_read_in_few_places() -> None:
    """Everybody else gets values; ``oslo_config`` is for those that read or hand it on."""
    readers = {m.name for m in MODULES if any(n.startswith("oslo_config") for n in m.imports)}
    assert {name for name in readers
            if not name.startswith(("rbd_worker.cli.", "rbd_worker.conf."))} <= {
        "rbd_worker.service", "rbd_worker.triggers.broker", "rpcapi.client"}


@pytest.mark.parametrize("module", MODULES, ids=IDS)
def test_every_file_states_its_licence_and_its_story(module: Module) -> None:
    text = module.path.read_text()
    assert text.startswith("# SPDX-License-Identifier: Apache-2.0\n")
    assert ast.get_docstring(ast.parse(text))


def test_an_import_upward_would_be_seen() -> None:
    names = set(_imports("def f():\n    from rbd_worker.migration import engine\n"))
    assert names == {"rbd_worker.migration.engine"}
    level = _level("rbd_worker.migration.engine")
    assert level is not None and level < ty.cast(int, _level("rbd_worker.host.trash"))
