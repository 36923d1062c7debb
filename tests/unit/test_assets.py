# SPDX-License-Identifier: Apache-2.0
"""What is installed besides the program: unit, logrotate, tmpfiles, image, gate.

Each is checked by the tool that will read it where that is there, and against
what the program itself promises.
"""

import configparser
import os
import pathlib
import re
import shutil
import subprocess
import typing as ty

import pytest
import yaml
from oslo_config import cfg

from rbd_worker import conf
from rbd_worker.host import privileged

ROOT = pathlib.Path(__file__).resolve().parents[2]
ETC = ROOT / "etc"
INSTANCE = "a05482ec-d71a-48c7-bf99-94d829b20aef"
CAPABILITIES = {each.name for each in privileged.CAPABILITIES}


def _needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not here")


# -- systemd ----------------------------------------------------------------------


def _unit() -> configparser.SectionProxy:
    parsed = configparser.ConfigParser(interpolation=None, strict=True)
    parsed.optionxform = str  # type: ignore[assignment]
    parsed.read(ETC / "rbd-worker.service")
    return parsed["Service"]


def test_the_unit_hears_from_the_worker_and_watches_it() -> None:
    unit = _unit()
    assert (unit["Type"], unit["NotifyAccess"]) == ("notify", "main")
    assert int(unit["WatchdogSec"]) >= 30, "a busy host is not a dead worker"


def test_the_unit_gives_what_file_work_needs_and_no_way_to_more() -> None:
    unit = _unit()
    assert unit["User"] == "nova"
    assert set(unit["AmbientCapabilities"].split()) == CAPABILITIES
    assert set(unit["CapabilityBoundingSet"].split()) == CAPABILITIES
    assert unit["NoNewPrivileges"] == "yes"
    assert unit["KillMode"] == "mixed", "the process with privileges works until the other's end"


def test_under_devstack_the_worker_has_the_rights_of_the_unit() -> None:
    plugin = (ROOT / "devstack/lib/rbd-worker").read_text()
    for name in ("AmbientCapabilities", "CapabilityBoundingSet"):
        found = re.search(rf"^{name}=(.*)$", plugin, re.MULTILINE)
        assert found is not None
        assert set(found[1].split()) == CAPABILITIES


def test_the_worker_may_write_where_nova_keeps_its_files_by_default() -> None:
    config = cfg.ConfigOpts()
    conf.register(config)
    config([], default_config_files=[])
    writable = pathlib.PurePath(_unit()["ReadWritePaths"])
    assert _unit()["ProtectSystem"] == "strict"
    for path in (config.instances_path, config.rbd_worker.state_directory):
        assert pathlib.PurePath(path).is_relative_to(writable)


@_needs("systemd-analyze")
def test_systemd_understands_every_line_of_the_unit(tmp_path: pathlib.Path) -> None:
    unit = tmp_path / "rbd-worker.service"
    text = (ETC / "rbd-worker.service").read_text()
    unit.write_text(text.replace("/opt/rbd-worker/bin/rbd-worker", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", unit], text=True, capture_output=True,
                          timeout=60)
    assert [line for line in done.stderr.splitlines() if "rbd-worker.service" in line] == []


# -- directories and logs ---------------------------------------------------------------


@_needs("systemd-tmpfiles")
def test_the_journal_is_for_the_worker_alone(tmp_path: pathlib.Path) -> None:
    lines = (ETC / "tmpfiles.d/rbd-worker.conf").read_text()
    ours = tmp_path / "ours.conf"
    ours.write_text(re.sub(r"(nova|root) (nova|root)", "- -", lines))
    root = tmp_path / "root"
    root.mkdir()
    subprocess.run(["systemd-tmpfiles", "--create", f"--root={root}", ours], check=True,
                   capture_output=True, timeout=60)
    modes = {name: (root / name).stat().st_mode & 0o7777 for name in (
        "etc/rbd-worker", "var/lib/nova/rbd-worker", "var/log/rbd-worker")}
    assert modes == {"etc/rbd-worker": 0o755, "var/lib/nova/rbd-worker": 0o700,
                     "var/log/rbd-worker": 0o750}


@_needs("logrotate")
def test_a_log_is_rotated_under_an_open_file(tmp_path: pathlib.Path) -> None:
    log = tmp_path / "log/rbd-worker.log"
    log.parent.mkdir()
    rules = tmp_path / "rules"
    text = (ETC / "logrotate.d/rbd-worker").read_text()
    rules.write_text(text.replace("/var/log/rbd-worker", str(log.parent))
                     .replace("    su nova nova\n", "").replace("delaycompress", "nocompress"))
    rules.chmod(0o644)
    with log.open("a") as held:
        held.write("before\n")
        held.flush()
        subprocess.run(["logrotate", "--force", "--state", tmp_path / "state", rules],
                       check=True, timeout=60, env={**os.environ, "LC_ALL": "C"})
        held.write("after\n")
    assert log.read_text() == "after\n"
    assert (log.parent / "rbd-worker.log.1").read_text() == "before\n"


# -- the image ----------------------------------------------------------------------------


def test_everything_that_the_image_copies_is_there() -> None:
    recipe = (ETC / "container/Containerfile").read_text()
    copied = [name for line in re.findall(r"^COPY (?!--from)(.*)$", recipe, re.MULTILINE)
              for name in line.split()[:-1]]
    assert {"rbd_worker", "rpcapi", "constraints.txt"} <= set(copied)
    assert [name for name in copied if not (ROOT / name).exists()] == []


def test_the_image_starts_what_the_unit_starts() -> None:
    recipe = (ETC / "container/Containerfile").read_text()
    words = [word for line in re.findall(r"^(?:ENTRYPOINT|CMD) (\[.*\])$", recipe, re.MULTILINE)
             for word in yaml.safe_load(line)]
    assert words == _unit()["ExecStart"].split()


# -- the gate -----------------------------------------------------------------------------


def _jobs() -> dict[str, dict[str, ty.Any]]:
    parts = yaml.safe_load((ROOT / ".zuul.yaml").read_text())
    return {part["job"]["name"]: part["job"] for part in parts if "job" in part}


def test_both_nodes_of_the_job_agree_on_the_secret() -> None:
    job = _jobs()["rbd-worker-live-migration"]
    controller, subnode = job["vars"], job["group-vars"]["subnode"]
    name = "CINDER_CEPH_UUID"
    assert controller["devstack_localrc"][name] == subnode["devstack_localrc"][name]
    assert "rbd-worker" in controller["devstack_plugins"]
    assert {"rbd-worker", "devstack-plugin-ceph"} <= set(subnode["devstack_plugins"])


def test_the_jobs_in_the_pipelines_exist() -> None:
    (project,) = [part["project"] for part in yaml.safe_load((ROOT / ".zuul.yaml").read_text())
                  if "project" in part]
    named = [job if isinstance(job, str) else next(iter(job))
             for pipeline in project.values() for job in pipeline["jobs"]]
    assert set(named) == set(_jobs())


def _known_options() -> set[str]:
    return {option.name for option in conf.WORKER_OPTS}


def test_the_job_and_the_sample_set_options_that_exist() -> None:
    wanted = _jobs()["rbd-worker-live-migration"]["vars"]["devstack_local_conf"]
    assert set(wanted["post-config"]["$RBD_WORKER_CONF"]["rbd_worker"]) <= _known_options()
    sample = (ETC / "local.conf.sample").read_text()
    own = sample.partition("[rbd_worker]\n")[2].partition("\n# --")[0]
    named = set(re.findall(r"^(\w+) =", own, re.MULTILINE))
    assert named and named <= _known_options()


def test_every_setting_that_the_readme_names_exists() -> None:
    readme = (ROOT / "devstack/README.md").read_text()
    settings = (ROOT / "devstack/settings").read_text()
    named = set(re.findall(r"^\| `(RBD_WORKER_\w+)`", readme, re.MULTILINE))
    assert named and named <= set(re.findall(r"^(RBD_WORKER_\w+)=", settings, re.MULTILINE))


def test_the_playbook_of_the_job_is_there_with_its_script() -> None:
    playbook = ROOT / _jobs()["rbd-worker-live-migration"]["post-run"]
    (play,) = yaml.safe_load(playbook.read_text())
    (script,) = [task["script"].split()[0] for task in play["tasks"] if "script" in task]
    assert os.access(playbook.parent / script, os.X_OK)


@pytest.fixture
def no_leftover(tmp_path: pathlib.Path) -> ty.Callable[[], "subprocess.CompletedProcess[str]"]:
    """Runs the gate's check on ``tmp_path/instances`` with a libvirt that has one guest."""
    virsh = tmp_path / "bin/virsh"
    virsh.parent.mkdir()
    virsh.write_text(f'#!/bin/sh\n[ "$4" = {INSTANCE} ]\n')
    virsh.chmod(0o755)
    (tmp_path / "instances").mkdir()
    return lambda: subprocess.run(
        [ROOT / "playbooks/live-migration/files/no-leftover", tmp_path / "instances"],
        env={**os.environ, "PATH": f"{virsh.parent}:{os.environ['PATH']}"}, text=True,
        capture_output=True, timeout=60)


NoLeftover = ty.Callable[[], "subprocess.CompletedProcess[str]"]


@pytest.mark.parametrize("name", [INSTANCE, "_base", "locks", ".rbd-worker", "compute_nodes"])
def test_the_gate_accepts_a_guest_that_is_here_and_what_is_no_guests(
        no_leftover: NoLeftover, tmp_path: pathlib.Path, name: str) -> None:
    (tmp_path / "instances" / name).mkdir()
    assert no_leftover().returncode == 0


def test_the_gate_accepts_an_empty_host(no_leftover: NoLeftover) -> None:
    assert no_leftover().returncode == 0


@pytest.mark.parametrize("name", ["0b6f4a8e-5c1c-4a2f-9a5f-3e1d7c2b9a10",
                                  f"{INSTANCE}_resize", f"{INSTANCE}_del"])
def test_the_gate_names_a_leftover(no_leftover: NoLeftover, tmp_path: pathlib.Path,
                                   name: str) -> None:
    (tmp_path / "instances" / name).mkdir()
    done = no_leftover()
    assert done.returncode == 1
    assert name in done.stdout
