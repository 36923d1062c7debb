# SPDX-License-Identifier: Apache-2.0
"""Options: Nova's names, types and defaults; what is wrong is named with its remedy."""

import os
import pathlib
import subprocess
import sys
import typing as ty

import pytest
from oslo_config import cfg

from rbd_worker import conf, errors, model

ROOT = pathlib.Path(__file__).resolve().parents[2]

#: Everything a Ceph cloud's nova.conf says of images, as operators write it.
RBD = """
[libvirt]
images_type = rbd
rbd_user = nova
rbd_secret_uuid = 457eb676-33da-42ec-9a8c-9293d545c337
"""


class Files:
    """Configuration files of one test, read as the service does but into a CONF of its own."""

    def __init__(self, directory: pathlib.Path) -> None:
        self._directory = directory

    def write(self, text: str, name: str = "nova.conf") -> pathlib.Path:
        path = self._directory / name
        path.write_text(text)
        return path

    def settings(self, *texts: str) -> conf.Settings:
        paths = [self.write(text, f"{number}.conf") for number, text in enumerate(texts)]
        config = cfg.ConfigOpts()
        conf.register(config)
        config([word for path in paths for word in ("--config-file", str(path))],
               project="test-rbd-worker", default_config_files=[])
        return conf.settings(config)


@pytest.fixture
def files(tmp_path: pathlib.Path) -> Files:
    return Files(tmp_path)


#: As nova 34's own option definitions have them.
NOVA_DEFAULTS: dict[tuple[str, str], tuple[type[cfg.Opt], ty.Any]] = {
    ("", "state_path"): (cfg.StrOpt, "/var/lib/nova"),
    ("", "instances_path"): (cfg.StrOpt, "$state_path/instances"),
    ("", "live_migration_retry_count"): (cfg.IntOpt, 30),
    ("", "max_concurrent_live_migrations"): (cfg.IntOpt, 1),
    ("libvirt", "connection_uri"): (cfg.StrOpt, ""),
    ("libvirt", "virt_type"): (cfg.StrOpt, "kvm"),
    ("libvirt", "images_type"): (cfg.StrOpt, "default"),
    ("libvirt", "images_rbd_pool"): (cfg.StrOpt, "rbd"),
    ("libvirt", "images_rbd_ceph_conf"): (cfg.StrOpt, ""),
    ("libvirt", "live_migration_uri"): (cfg.StrOpt, None),
    ("libvirt", "live_migration_scheme"): (cfg.StrOpt, None),
    ("libvirt", "live_migration_inbound_addr"): (cfg.StrOpt, None),
    ("libvirt", "live_migration_bandwidth"): (cfg.IntOpt, 0),
    ("libvirt", "live_migration_tunnelled"): (cfg.BoolOpt, False),
    ("libvirt", "live_migration_with_native_tls"): (cfg.BoolOpt, False),
    ("libvirt", "live_migration_permit_post_copy"): (cfg.BoolOpt, False),
    ("libvirt", "live_migration_permit_auto_converge"): (cfg.BoolOpt, False),
    ("libvirt", "live_migration_completion_timeout"): (cfg.IntOpt, 800),
    ("libvirt", "live_migration_timeout_action"): (cfg.StrOpt, "abort"),
    ("libvirt", "live_migration_downtime"): (cfg.IntOpt, 500),
    ("libvirt", "live_migration_downtime_steps"): (cfg.IntOpt, 10),
    ("libvirt", "live_migration_downtime_delay"): (cfg.IntOpt, 75),
    ("vnc", "server_listen"): (cfg.StrOpt, "127.0.0.1"),
}


def _registered() -> dict[tuple[str, str], cfg.Opt]:
    groups = {"": conf.NOVA_OPTS, "libvirt": conf.NOVA_LIBVIRT_OPTS, "vnc": conf.NOVA_VNC_OPTS}
    return {(group, opt.name): opt for group, opts in groups.items() for opt in opts}


@pytest.mark.parametrize(("group", "name"), sorted(NOVA_DEFAULTS))
def test_novas_options_have_novas_types_and_defaults(group: str, name: str) -> None:
    kind, default = NOVA_DEFAULTS[group, name]
    option = _registered()[group, name]
    assert type(option) is kind
    assert option.default == default


def test_no_setting_of_our_own_is_needed(files: Files) -> None:
    settings = files.settings(RBD)
    assert settings.executor is model.Executor.NOVA
    assert settings.instances_path == "/var/lib/nova/instances"
    assert settings.state_directory == "/var/lib/nova/rbd-worker"
    assert settings.live_migration_retry_count == 30
    assert settings.libvirt.uri == "qemu:///system"
    assert settings.ceph == conf.CephSettings(
        "/etc/ceph/ceph.conf", "nova", "457eb676-33da-42ec-9a8c-9293d545c337")
    assert not settings.is_idle


def test_paths_follow_state_path(files: Files) -> None:
    settings = files.settings("[DEFAULT]\nstate_path = /srv/nova\n" + RBD)
    assert settings.instances_path == "/srv/nova/instances"
    assert settings.state_directory == "/srv/nova/rbd-worker"


def test_sizes_become_bytes(files: Files) -> None:
    settings = files.settings(RBD + "[rbd_worker]\nmax_data_gib = 2\nmax_file_gib = 3\n"
                                    "inline_kib = 5\nconsole_history_mib = 7\n")
    assert settings.max_data_bytes == 2 * 1024 ** 3
    assert settings.max_file_bytes == 3 * 1024 ** 3
    assert settings.inline_bytes == 5 * 1024
    assert settings.console_history_bytes == 7 * 1024 ** 2


def test_a_later_file_goes_before_an_earlier_one(files: Files) -> None:
    settings = files.settings(RBD, "[rbd_worker]\nexecutor = libvirt\n")
    assert settings.executor is model.Executor.LIBVIRT


@pytest.mark.parametrize("images_type", ["default", "qcow2", "raw", "lvm"])
def test_without_rbd_images_the_worker_is_idle(files: Files, images_type: str) -> None:
    settings = files.settings(f"[libvirt]\nimages_type = {images_type}\n")
    assert settings.is_idle


def test_options_of_others_in_nova_conf_are_none_of_our_business(files: Files) -> None:
    settings = files.settings("[DEFAULT]\nfirewall_driver = x\n[neutron]\nurl = x\n" + RBD)
    assert not settings.is_idle


#: Text, the option that must be named, and words that the remedy must have.
WRONG = {
    "misspelt": ("[rbd_worker]\nexcutor = nova\n", "[rbd_worker] excutor",
                 "Did you mean executor"),
    "dashes": ("[rbd_worker]\ntrash-retentoin = 1\n", "[rbd_worker] trash-retentoin",
               "Did you mean trash_retention"),
    "unknown": ("[rbd_worker]\nzzz = 1\n", "[rbd_worker] zzz", "Remove it"),
    "executor": ("[rbd_worker]\nexecutor = qemu\n", "[rbd_worker] executor", "nova"),
    "number": ("[rbd_worker]\nmax_files = many\n", "[rbd_worker] max_files", "512"),
    "range": ("[rbd_worker]\nmax_files = 0\n", "[rbd_worker] max_files", "equal to 1"),
    "host": ("[DEFAULT]\nhost = node/1\n", "[DEFAULT] host", "nova-compute"),
    "instances_path": ("[DEFAULT]\ninstances_path = instances\n", "[DEFAULT] instances_path", "/"),
    "state_directory": ("[rbd_worker]\nstate_directory = here\n", "[rbd_worker] state_directory",
                        "/"),
    "virt_type": ("[libvirt]\nvirt_type = lxc\n", "[libvirt] virt_type", "kvm"),
    "uri without %s": ("[libvirt]\nlive_migration_uri = qemu+tcp://node/system\n",
                       "[libvirt] live_migration_uri", "%s"),
    "uri with two %s": ("[libvirt]\nlive_migration_uri = qemu+%s://%s/system\n",
                        "[libvirt] live_migration_uri", "%s"),
    "tunnelled and TLS": ("[libvirt]\nlive_migration_tunnelled = true\n"
                          "live_migration_with_native_tls = true\n",
                          "[libvirt] live_migration_tunnelled", "off"),
    "no rbd_user": ("[libvirt]\nrbd_user =\n", "[libvirt] rbd_user", "Ceph client"),
    "bandwidth": ("[libvirt]\nlive_migration_bandwidth = -1\n",
                  "[libvirt] live_migration_bandwidth", "equal to 0"),
    "timeout action": ("[libvirt]\nlive_migration_timeout_action = pause\n",
                       "[libvirt] live_migration_timeout_action", "force_complete"),
    "retry count": ("[DEFAULT]\nlive_migration_retry_count = -1\n",
                    "[DEFAULT] live_migration_retry_count", "default (30)"),
    "not a file of options": ("this is no ini file\n", "0.conf", ""),
}


class Refused(ty.NamedTuple):
    status: int
    stdout: str
    stderr: str


def _start(*paths: pathlib.Path | str) -> Refused:
    """``rbd-worker`` as a process; every case in here ends before it would connect anywhere."""
    words = [word for path in paths for word in ("--config-file", str(path))]
    done = subprocess.run([sys.executable, "-m", "rbd_worker.service", *words], text=True,
                          capture_output=True, timeout=60, cwd=ROOT, env=os.environ)
    return Refused(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("case", sorted(WRONG))
def test_a_wrong_value_ends_the_start_with_its_name_and_the_remedy(
        case: str, files: Files) -> None:
    text, option, remedy = WRONG[case]
    refused = _start(files.write(RBD, "nova.conf"), files.write(text, "0.conf"))
    sentence = refused.stderr.splitlines()[-1]
    assert refused.status == 1
    assert sentence.startswith("rbd-worker: option ")
    assert option in sentence
    assert remedy in sentence
    assert "Traceback" not in refused.stdout + refused.stderr
    said = {line.removeprefix("rbd-worker: ") for line in refused.stderr.splitlines()}
    assert said == {sentence.removeprefix("rbd-worker: ")}, "nothing beside the sentence"


def test_a_file_that_is_not_there_is_named(tmp_path: pathlib.Path) -> None:
    refused = _start(tmp_path / "absent.conf")
    assert refused.status == 1
    assert "absent.conf" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_directory_that_is_not_there_is_named(tmp_path: pathlib.Path) -> None:
    done = subprocess.run([sys.executable, "-m", "rbd_worker.service", "--config-dir",
                           str(tmp_path / "absent.d")], text=True, capture_output=True,
                          timeout=60, cwd=ROOT)
    assert done.returncode == 1
    assert "absent.d" in done.stderr and "Give directories that exist" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_misspelt_option_in_a_directory_of_files_is_refused_too(files: Files,
                                                                  tmp_path: pathlib.Path) -> None:
    files.write(RBD)
    more = tmp_path / "more.d"
    more.mkdir()
    (more / "50-more.conf").write_text("[rbd_worker]\naudit_intervall = 60\n")
    config = cfg.ConfigOpts()
    conf.register(config)
    config(["--config-file", str(tmp_path / "nova.conf"), "--config-dir", str(more)],
           project="test-rbd-worker", default_config_files=[])
    told = r"audit_intervall: no such option \(.*50-more\.conf"
    with pytest.raises(errors.BadConfiguration, match=told):
        conf.settings(config)


def test_help_has_examples() -> None:
    done = subprocess.run([sys.executable, "-m", "rbd_worker.service", "--help"], text=True,
                          capture_output=True, timeout=60, cwd=ROOT)
    assert done.returncode == 0
    assert "--config-file" in done.stdout
    assert "Example:" in done.stdout


def test_a_bad_host_name_is_not_a_traceback(files: Files) -> None:
    with pytest.raises(errors.BadConfiguration) as caught:
        files.settings("[DEFAULT]\nhost = a b\n" + RBD)
    assert isinstance(caught.value.__cause__, errors.BadHostName)


def test_every_option_of_ours_explains_itself() -> None:
    for option in conf.WORKER_OPTS:
        assert option.help and option.help.rstrip().endswith("."), option.name


def test_the_sample_is_what_the_generator_writes_now(tmp_path: pathlib.Path) -> None:
    """``make sample`` brings it up to date."""
    written = tmp_path / "sample"
    generator = pathlib.Path(sys.executable).with_name("oslo-config-generator")
    subprocess.run([generator, "--config-file", "etc/config-generator.conf",
                    "--output-file", str(written)], check=True, cwd=ROOT, timeout=60)
    assert (ROOT / "etc/rbd-worker.conf.sample").read_text() == written.read_text()


def test_a_line_that_cannot_be_read_is_named_and_not_shown(files: Files) -> None:
    """It may be the second half of a password."""
    refused = _start(files.write("[DEFAULT]\nhost = x\nthe-end-of-a-password\n", "nova.conf"))
    assert refused.status == 1
    assert "nova.conf:3" in refused.stderr
    assert "the-end-of-a-password" not in refused.stdout + refused.stderr


@pytest.mark.parametrize(("value", "expected"), [
    ("127.0.0.1:9642", ("127.0.0.1", 9642)), ("[::1]:80", ("::1", 80)), ("", None)])
def test_metrics_are_offered_at_an_address_and_a_port(
        files: Files, value: str, expected: tuple[str, int] | None) -> None:
    found = files.settings(RBD, f"[rbd_worker]\nmetrics_listen = {value}\n")
    assert found.metrics_listen == expected


@pytest.mark.parametrize("value", ["9642", "localhost:9642", "127.0.0.1:0", "127.0.0.1:65536",
                                   "::1:80", "[127.0.0.1]:80", "127.0.0.1:x"])
def test_what_is_no_address_and_port_is_refused_with_an_example(
        files: Files, value: str) -> None:
    with pytest.raises(errors.BadConfiguration) as refused:
        files.settings(RBD, f"[rbd_worker]\nmetrics_listen = {value}\n")
    assert "metrics_listen" in refused.value.sentence
    assert "127.0.0.1:9642" in refused.value.sentence
