# SPDX-License-Identifier: Apache-2.0
"""The devstack plugin, phase by phase, with small stand-ins for devstack's functions.

Everything happens below a temporary directory; what would change the machine
(systemctl, pip, a service's restart) is written to a list.  The stand-ins are
in tests/fixtures/devstack.
"""

import collections.abc
import configparser
import os
import pathlib
import shutil
import stat
import subprocess
import sys
import uuid

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
STANDINS = ROOT / "tests/fixtures/devstack"

STACK = ("stack pre-install", "stack install", "stack post-config", "stack extra",
         "stack test-config")
PRISTINE_LIBVIRTD_CONF = '# Master libvirt daemon configuration file\nauth_tcp = "sasl"\n'
CEPH_NOVA_CONF = """\
[DEFAULT]
my_ip = 192.0.2.11

[libvirt]
images_type = rbd
live_migration_uri = qemu+ssh://stack@%s/system
"""

pytestmark = pytest.mark.skipif(
    shutil.which("bash") is None, reason="devstack's plugins are bash")

_INI = """\
#!{python}
import configparser, pathlib, sys
action, path, section, option, *value = sys.argv[1:]
ini = configparser.ConfigParser(interpolation=None, default_section="")
ini.read(path)
if action == "get":
    print(ini.get(section, option, fallback=""))
    sys.exit()
if action == "set":
    ini.has_section(section) or ini.add_section(section)
    ini.set(section, option, " ".join(value))
elif ini.has_section(section):
    ini.remove_option(section, option)
with pathlib.Path(path).open("w") as out:
    ini.write(out)
"""

_SUDO = """\
#!/bin/bash
if [[ "$1" == systemctl ]]; then
    echo "$*" >>"$ROOT/calls"
    exit 0
fi
exec "$@"
"""


class Node:
    """One node that devstack works on."""

    def __init__(self, root: pathlib.Path, **settings: str) -> None:
        self.root = root
        self.settings = settings
        for name in ("bin", "etc/nova", "etc/libvirt", "data/nova", "systemd", "dist-packages"):
            (root / name).mkdir(parents=True)
        self._program("ini", _INI.format(python=sys.executable))
        self._program("sudo", _SUDO)
        (root / "etc/libvirt/libvirtd.conf").write_text(PRISTINE_LIBVIRTD_CONF)
        (root / "etc/nova/nova.conf").write_text(CEPH_NOVA_CONF)
        (root / "hearing").write_text("hearing\n")
        (root / "tempest.conf").write_text("")
        for module in ("rados", "rbd"):
            (root / f"dist-packages/{module}.so").touch()

    def _program(self, name: str, text: str) -> None:
        path = self.root / "bin" / name
        path.write_text(text)
        path.chmod(0o755)

    def run(self, *phases: str, **settings: str) -> str:
        """devstack's way through the phases, in one shell; what it printed.

        nova-cpu.conf appears between post-config and extra, as with devstack.
        """
        done = self.try_run(*phases, **settings)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def try_run(self, *phases: str, **settings: str) -> subprocess.CompletedProcess[str]:
        lines = [f'source "{STANDINS}/functions"',
                 f'source "{ROOT}/devstack/override-defaults"',
                 f'source "{ROOT}/devstack/settings"']
        for phase in phases:
            if phase == "stack extra":
                lines.append('cp "$NOVA_CONF" "$NOVA_CPU_CONF"')
            lines.append(f'source "{ROOT}/devstack/plugin.sh" {phase}')
        lines.append('echo "uuid=$CINDER_CEPH_UUID services=$ENABLED_SERVICES"')
        environment = {
            "PATH": f"{self.root}/bin:{os.environ['PATH']}", "ROOT": str(self.root),
            "RBD_WORKER_CONF_DIR": f"{self.root}/etc/rbd-worker",
            "RBD_WORKER_LIBVIRT_CONF_DIR": f"{self.root}/etc/libvirt",
            "RBD_WORKER_LIBVIRT_UNIT_DIR": f"{self.root}/systemd",
            "RBD_WORKER_PKI_DIR": f"{self.root}/etc/pki",
            "RBD_WORKER_PYTHON": f"{STANDINS}/python", **self.settings, **settings}
        return subprocess.run(["bash", "-c", "\n".join(lines)], env=environment, text=True,
                              timeout=120, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def read(self, path: str) -> str:
        return (self.root / path).read_text()

    def exists(self, path: str) -> bool:
        return (self.root / path).exists()

    def calls(self) -> list[str]:
        path = self.root / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def forget_calls(self) -> None:
        (self.root / "calls").unlink(missing_ok=True)

    def ini(self, path: str) -> configparser.ConfigParser:
        parsed = configparser.ConfigParser(interpolation=None, default_section="", strict=True)
        parsed.read_string(self.read(path))
        return parsed

    def files(self) -> dict[str, tuple[str, str]]:
        """Every file with its mode and content, what the stand-ins write down left out."""
        return {str(path.relative_to(self.root)): (stat.filemode(path.lstat().st_mode),
                                                   _content(path))
                for path in sorted(self.root.rglob("*"))
                if path.name not in ("calls", "reads")}


def _content(path: pathlib.Path) -> str:
    if path.is_symlink():
        return f"-> {path.readlink()}"
    return path.read_text() if path.is_file() else ""


MakeNode = collections.abc.Callable[..., Node]


@pytest.fixture
def make_node(tmp_path: pathlib.Path) -> MakeNode:
    made: list[Node] = []

    def make(**settings: str) -> Node:
        made.append(Node(tmp_path / f"node{len(made)}", **settings))
        return made[-1]
    return make


SCENARIOS = {
    "as it comes": {},
    "tls": {"RBD_WORKER_LIBVIRT_TRANSPORT": "tls", "SERVICE_HOST": "192.0.2.11"},
    "tcp": {"RBD_WORKER_LIBVIRT_TRANSPORT": "tcp", "RBD_WORKER_LIBVIRT_TCP_AUTH": "none"},
    "the global environment": {"RBD_WORKER_USE_GLOBAL_VENV": "True", "RBD_WORKER_HOOK": "False"},
    "executor libvirt": {"RBD_WORKER_EXECUTOR": "libvirt", "ENABLED_SERVICES": "tempest"},
}


def _prepared(make_node: MakeNode, settings: dict[str, str]) -> Node:
    node = make_node(**settings)
    if settings.get("RBD_WORKER_USE_GLOBAL_VENV"):  # devstack made it, and pip filled it
        made = subprocess.run([STANDINS / "python", "-m", "venv", node.root / "data/venv"],
                              env={**os.environ, "ROOT": str(node.root)})
        assert made.returncode == 0
        for module in ("rados", "rbd"):
            (node.root / f"data/venv/lib/site-packages/{module}.so").touch()
    return node


# -- every phase, again ------------------------------------------------------------


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_phase_that_runs_again_changes_no_file(make_node: MakeNode, scenario: str) -> None:
    node = _prepared(make_node, SCENARIOS[scenario])
    for phase in STACK:
        node.run(phase)
        before = node.files()
        node.run(phase)
        assert node.files() == before, phase


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_stacking_again_changes_no_file(make_node: MakeNode, scenario: str) -> None:
    node = _prepared(make_node, SCENARIOS[scenario])
    node.run(*STACK)
    before = node.files()
    node.run(*STACK)
    assert node.files() == before


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_unstack_and_clean_leave_nothing_and_can_be_repeated(make_node: MakeNode,
                                                             scenario: str) -> None:
    node = _prepared(make_node, SCENARIOS[scenario])
    before = set(node.files())
    node.run(*STACK)
    node.run("unstack", "clean")
    left = {path for path in set(node.files()) - before
            if not path.startswith(("data/CA", "etc/pki"))}  # devstack's CA stays, as with others
    assert left - {"etc/nova/nova-cpu.conf", "systemd/devstack@rbd-worker.service"} == set()
    assert not [path for path in node.files() if path.startswith("etc/pki/") and "key" in path]
    assert node.read("etc/libvirt/libvirtd.conf") == PRISTINE_LIBVIRTD_CONF
    after = node.files()
    node.run("unstack", "clean")
    assert node.files() == after


def test_unstack_on_a_node_that_was_never_stacked_does_no_harm(make_node: MakeNode) -> None:
    node = make_node()
    before = node.files()
    node.run("unstack", "clean")
    assert node.files() == before


def test_a_node_without_nova_compute_is_left_alone(make_node: MakeNode) -> None:
    node = make_node(ENABLED_SERVICES="n-api,tempest")
    before = node.files()
    assert "services=n-api,tempest\n" in node.run("stack pre-install", "stack install",
                                                  "stack post-config", "stack test-config")
    assert node.files() == before
    assert node.calls() == []


# -- what they bring about -----------------------------------------------------------


def test_the_worker_reads_the_configuration_of_the_compute_beside_it(make_node: MakeNode) -> None:
    node = make_node()
    node.run(*STACK)
    unit = node.ini("systemd/devstack@rbd-worker.service")["Service"]
    assert unit["ExecStart"] == (
        f"{node.root}/data/rbd-worker-venv/bin/rbd-worker "
        f"--config-file {node.root}/etc/nova/nova-cpu.conf "
        f"--config-file {node.root}/etc/rbd-worker/rbd-worker.conf")
    assert unit["Group"] == "libvirt"


def test_without_nova_compute_it_reads_nova_conf(make_node: MakeNode) -> None:
    node = make_node(**SCENARIOS["executor libvirt"])
    node.run(*STACK)
    started = node.ini("systemd/devstack@rbd-worker.service")["Service"]["ExecStart"]
    assert "nova-cpu.conf" not in started
    own = node.ini("etc/rbd-worker/rbd-worker.conf")["rbd_worker"]
    assert own["executor"] == "libvirt"


def test_a_running_worker_is_stopped_before_the_new_one_starts(make_node: MakeNode) -> None:
    node = make_node()
    node.run(*STACK)
    node.forget_calls()
    node.run("stack extra")
    assert node.calls() == ["stop rbd-worker", "start rbd-worker"]


def test_both_ceph_modules_are_linked_into_the_environment(make_node: MakeNode) -> None:
    node = make_node()
    node.run("stack install")
    site = node.root / "data/rbd-worker-venv/lib/site-packages"
    assert {path.name: path.resolve() for path in site.iterdir()} == {
        "rados.so": node.root / "dist-packages/rados.so",
        "rbd.so": node.root / "dist-packages/rbd.so"}


def test_offline_nothing_is_fetched(make_node: MakeNode) -> None:
    node = make_node(OFFLINE="True")
    node.run("stack install")
    assert node.calls() == []


def test_the_hook_is_there_before_libvirt_starts_anew(make_node: MakeNode) -> None:
    node = make_node()
    node.run("stack pre-install", "stack install")
    assert not node.exists("etc/libvirt/hooks/qemu")
    node.run("stack post-config")
    assert node.exists("etc/libvirt/hooks/qemu")
    assert node.calls()[-1] == "restart libvirtd"
    node.run("unstack")
    assert not node.exists("etc/libvirt/hooks/qemu")


def test_the_journal_is_for_the_worker_alone(make_node: MakeNode) -> None:
    node = make_node()
    node.run(*STACK)
    path = node.root / "data/nova/rbd-worker"
    assert node.ini("etc/rbd-worker/rbd-worker.conf")["rbd_worker"]["state_directory"] == str(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_a_command_that_knows_no_hook_is_no_obstacle(make_node: MakeNode) -> None:
    node = make_node()
    (node.root / "no-hook-command").touch()
    assert "WARNING" in node.run(*STACK)
    assert not node.exists("etc/libvirt/hooks")


def test_all_nodes_get_the_same_secret_uuid(make_node: MakeNode) -> None:
    expected = uuid.uuid5(uuid.NAMESPACE_DNS, "rbd-worker.192.0.2.10")
    for address in ("192.0.2.10", "192.0.2.11"):
        assert f"uuid={expected} " in make_node(HOST_IP=address).run()


def test_a_secret_uuid_of_the_operator_is_kept(make_node: MakeNode) -> None:
    own = "d531d2d4-3937-429c-b0c2-658fe41e82aa"
    assert f"uuid={own} " in make_node(CINDER_CEPH_UUID=own).run()


def test_tempest_is_told_that_guests_can_move(make_node: MakeNode) -> None:
    node = make_node()
    node.run(*STACK)
    assert dict(node.ini("tempest.conf")["compute-feature-enabled"]) == {
        "live_migration": "True", "live_migrate_back_and_forth": "True",
        "block_migration_for_live_migration": "False"}


# -- libvirt's listener ----------------------------------------------------------------


def test_as_it_comes_libvirt_listens_to_nobody(make_node: MakeNode) -> None:
    node = make_node()
    node.run(*STACK)
    assert node.read("etc/libvirt/libvirtd.conf") == PRISTINE_LIBVIRTD_CONF
    assert not [path for path in node.files() if "socket.d" in path]
    libvirt = node.ini("etc/nova/nova.conf")["libvirt"]
    assert libvirt["live_migration_uri"] == "qemu+ssh://stack@%s/system"


def test_tcp_listens_on_one_address_and_ours_is_the_first_word_on_who_may_come_in(
        make_node: MakeNode) -> None:
    node = make_node(**SCENARIOS["tcp"])
    node.run(*STACK)
    socket = node.read("systemd/libvirtd-tcp.socket.d/10-rbd-worker.conf")
    assert [line for line in socket.splitlines() if line.startswith("ListenStream")] == [
        "ListenStream=", "ListenStream=192.0.2.11:16509"]
    auth = [line for line in node.read("etc/libvirt/libvirtd.conf").splitlines()
            if line.startswith("auth_tcp")]
    assert auth == ['auth_tcp = "none"', 'auth_tcp = "sasl"']
    libvirt = node.ini("etc/nova/nova.conf")["libvirt"]
    assert (libvirt["live_migration_scheme"], libvirt["live_migration_inbound_addr"],
            "live_migration_uri" in libvirt) == ("tcp", "192.0.2.11", False)


def test_an_ipv6_address_is_written_as_systemd_reads_it(make_node: MakeNode) -> None:
    node = make_node(**SCENARIOS["tcp"], RBD_WORKER_LIBVIRT_ADDRESS="2001:db8::11")
    node.run(*STACK)
    socket = node.read("systemd/libvirtd-tcp.socket.d/10-rbd-worker.conf")
    assert "ListenStream=[2001:db8::11]:16509\n" in socket


def test_tcp_asks_for_a_user_unless_told_otherwise(make_node: MakeNode) -> None:
    node = make_node(RBD_WORKER_LIBVIRT_TRANSPORT="tcp")
    node.run(*STACK)
    assert "none" not in node.read("etc/libvirt/libvirtd.conf")


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "[::]", "*"])
def test_open_to_everybody_is_refused_before_anything_is_installed(
        make_node: MakeNode, address: str) -> None:
    node = make_node(**SCENARIOS["tcp"], RBD_WORKER_LIBVIRT_ADDRESS=address)
    before = node.files()
    refused = node.try_run(*STACK)
    assert refused.returncode != 0
    assert "RBD_WORKER_LIBVIRT_ALLOW_OPEN" in refused.stdout
    assert node.files() == before


def test_open_to_everybody_is_possible_where_it_is_asked_for(make_node: MakeNode) -> None:
    node = make_node(**SCENARIOS["tcp"], RBD_WORKER_LIBVIRT_ADDRESS="0.0.0.0",
                     RBD_WORKER_LIBVIRT_ALLOW_OPEN="True")
    assert "WARNING" in node.run(*STACK)
    assert "ListenStream=16509\n" in node.read(
        "systemd/libvirtd-tcp.socket.d/10-rbd-worker.conf")
    libvirt = node.ini("etc/nova/nova.conf")["libvirt"]
    assert libvirt["live_migration_inbound_addr"] == "192.0.2.11"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="devstack's CA is openssl's")
def test_tls_gives_libvirt_a_certificate_for_this_host(make_node: MakeNode) -> None:
    node = make_node(**SCENARIOS["tls"])
    node.run(*STACK)
    pki = node.root / "etc/pki"
    names = subprocess.run(
        ["openssl", "x509", "-noout", "-ext", "subjectAltName", "-in",
         pki / "libvirt/servercert.pem"], text=True, capture_output=True, check=True).stdout
    assert "IP Address:192.0.2.11" in names
    assert (pki / "libvirt/clientcert.pem").exists()
    assert (pki / "CA/cacert.pem").read_text() == "a chain\n"
    for key in ("serverkey.pem", "clientkey.pem"):
        assert stat.S_IMODE((pki / "libvirt/private" / key).stat().st_mode) == 0o600
    assert node.read("etc/libvirt/libvirtd.conf") == PRISTINE_LIBVIRTD_CONF


def test_tls_on_a_node_without_the_controllers_ca_says_what_to_copy(make_node: MakeNode) -> None:
    node = make_node(RBD_WORKER_LIBVIRT_TRANSPORT="tls")
    refused = node.try_run(*STACK)
    assert refused.returncode != 0
    assert f"copy {node.root}/data/CA from the controller" in refused.stdout


def test_another_transport_on_the_next_run_closes_the_first(make_node: MakeNode) -> None:
    node = make_node()
    node.run(*STACK, **SCENARIOS["tcp"])
    node.run(*STACK)
    assert not [path for path in node.files() if "socket.d" in path]
    assert node.read("etc/libvirt/libvirtd.conf") == PRISTINE_LIBVIRTD_CONF
    assert "systemctl disable --now libvirtd-tcp.socket" in node.calls()


def test_unstack_closes_the_port_for_real(make_node: MakeNode) -> None:
    node = make_node(**SCENARIOS["tcp"])
    node.run(*STACK)
    node.forget_calls()
    node.run("unstack")
    calls = node.calls()
    # the daemon holds the port until it starts anew
    assert calls.index("systemctl disable --now libvirtd-tcp.socket") < calls.index(
        "restart libvirtd")


# -- what is refused -----------------------------------------------------------------------


@pytest.mark.parametrize("settings, said", [
    ({"RBD_WORKER_EXECUTOR": "ssh"}, "RBD_WORKER_EXECUTOR"),
    ({"RBD_WORKER_EXECUTOR": "libvirt"}, "disable_service n-cpu"),
    ({"RBD_WORKER_LIBVIRT_TRANSPORT": "telnet"}, "RBD_WORKER_LIBVIRT_TRANSPORT"),
    ({"RBD_WORKER_LIBVIRT_TRANSPORT": "tcp", "RBD_WORKER_LIBVIRT_TCP_AUTH": "maybe"},
     "RBD_WORKER_LIBVIRT_TCP_AUTH"),
])
def test_a_wrong_setting_ends_the_first_phase_and_names_it(
        make_node: MakeNode, settings: dict[str, str], said: str) -> None:
    refused = make_node(**settings).try_run("stack pre-install")
    assert refused.returncode != 0
    assert said in refused.stdout


def test_a_python_that_is_too_old_is_named(make_node: MakeNode) -> None:
    node = make_node()
    (node.root / "old-python").touch()
    refused = node.try_run("stack pre-install")
    assert refused.returncode != 0
    assert "3.11" in refused.stdout


def test_missing_ceph_modules_are_named_with_their_packages(make_node: MakeNode) -> None:
    node = make_node()
    (node.root / "no-ceph").touch()
    refused = node.try_run("stack install")
    assert refused.returncode != 0
    assert "python3-rados and python3-rbd" in refused.stdout


def test_a_worker_that_does_not_hear_ends_stack_with_the_reason(make_node: MakeNode) -> None:
    node = make_node(RBD_WORKER_WAIT="1")
    (node.root / "hearing").write_text("connecting, 192.0.2.10:5672 refused\n")
    refused = node.try_run(*STACK)
    assert refused.returncode != 0
    assert "192.0.2.10:5672 refused" in refused.stdout


def test_a_cloud_without_rbd_is_warned_and_not_waited_for(make_node: MakeNode) -> None:
    node = make_node(PLUGINS="rbd-worker")
    (node.root / "etc/nova/nova.conf").write_text("[libvirt]\nimages_type = qcow2\n")
    (node.root / "hearing").write_text("")
    said = node.run(*STACK)
    assert "stays idle" in said
    assert "rbd-worker is idle" in said


# -- the scripts themselves ------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_has_nothing_to_say() -> None:
    scripts = [ROOT / "devstack" / name for name in (
        "plugin.sh", "settings", "override-defaults", "lib/rbd-worker", "lib/libvirt-listener")]
    scripts.append(ROOT / "playbooks/live-migration/files/no-leftover")
    done = subprocess.run(["shellcheck", "--external-sources", "--shell=bash", *scripts],
                          cwd=ROOT, text=True, capture_output=True)
    assert done.stdout == ""
