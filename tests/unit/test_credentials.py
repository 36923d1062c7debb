# SPDX-License-Identifier: Apache-2.0
"""Credentials for nova-api: none by default, from nova.conf or clouds.yaml, never shown."""

import pathlib

import pytest
from oslo_config import cfg

from rbd_worker import conf, errors

SERVICE_USER = """
[service_user]
send_service_user_token = true
auth_type = password
auth_url = https://keystone.example/v3
username = nova
password = very-secret
user_domain_name = Default
project_name = service
project_domain_name = Default
region_name = one
cafile = /etc/ssl/ca.pem
"""


def _read(tmp_path: pathlib.Path, own: str, more: str = "") -> conf.NovaApiSettings | None:
    path = tmp_path / "nova.conf"
    path.write_text("[DEFAULT]\nhost = node01\n[libvirt]\nimages_type = rbd\nrbd_user = nova\n"
                    f"{more}\n[rbd_worker]\n{own}\n")
    config = cfg.ConfigOpts()
    conf.register(config)
    config(["--config-file", str(path)], project="test-rbd-worker", default_config_files=[])
    return conf.settings(config).nova_api


def test_nova_is_not_asked_by_default(tmp_path: pathlib.Path) -> None:
    assert _read(tmp_path, "", SERVICE_USER) is None


def test_a_section_of_nova_conf_is_taken_as_keystoneauth_reads_it(tmp_path: pathlib.Path) -> None:
    found = _read(tmp_path, "os_auth_section = service_user\nos_timeout = 3", SERVICE_USER)
    assert found is not None
    assert found.auth == {
        "auth_url": "https://keystone.example/v3", "username": "nova", "password": "very-secret",
        "user_domain_name": "Default", "project_name": "service",
        "project_domain_name": "Default"}
    assert (found.region, found.cafile, found.timeout) == ("one", "/etc/ssl/ca.pem", 3)
    assert found.interfaces == ("internal", "public")
    assert found.origin == "section [service_user] of nova.conf"


def test_one_section_may_refer_to_another(tmp_path: pathlib.Path) -> None:
    found = _read(tmp_path, "os_auth_section = placement",
                  SERVICE_USER + "[placement]\nauth_section = service_user\n")
    assert found is not None and found.auth["username"] == "nova"


def test_a_cloud_is_taken_by_its_name(tmp_path: pathlib.Path) -> None:
    found = _read(tmp_path, "os_cloud = mycloud")
    assert found is not None
    assert (found.cloud, dict(found.auth)) == ("mycloud", {})


@pytest.mark.parametrize(("own", "words"), [
    ("os_cloud = a\nos_auth_section = service_user", "contradicts os_auth_section"),
    ("os_auth_section = no_such_section", r"section \[no_such_section\] has no auth_url")])
def test_what_cannot_be_right_is_refused_at_the_start(tmp_path: pathlib.Path, own: str,
                                                      words: str) -> None:
    with pytest.raises(errors.BadConfiguration, match=words):
        _read(tmp_path, own, SERVICE_USER)


def test_a_password_is_not_shown_with_the_settings(tmp_path: pathlib.Path) -> None:
    found = _read(tmp_path, "os_auth_section = service_user", SERVICE_USER)
    assert "very-secret" not in repr(found)
