# SPDX-License-Identifier: Apache-2.0
"""Nova's record, read with the real openstacksdk from services on this machine."""

import logging
import subprocess
import sys
import time
import typing as ty

import pytest

from devstack.lab import processes
from rbd_worker import conf, errors
from rbd_worker.host.nova_api import NovaApi
from rbd_worker.model import NovaRecord
from tests.unit.host import openstack_api

ONE = "a05482ec-d71a-48c7-bf99-94d829b20aef"
TWO = "b05482ec-d71a-48c7-bf99-94d829b20aef"


@pytest.fixture
def api() -> ty.Iterator[openstack_api.Api]:
    one = openstack_api.Api()
    yield one
    one.close()


def test_a_host_has_the_servers_that_the_record_has_there(api: openstack_api.Api) -> None:
    api.add(ONE, "node01", "error", "migrating")
    api.add(TWO, "node02")
    assert NovaApi(api.settings()).on_host("node01") == {
        ONE: NovaRecord(ONE, "node01", "error", "migrating")}


def test_all_pages_of_a_list_are_read(api: openstack_api.Api) -> None:
    uuids = [f"{n:08x}-d71a-48c7-bf99-94d829b20aef" for n in range(7)]
    for uuid in uuids:
        api.add(uuid, "node01")
    api.page = 3
    assert sorted(NovaApi(api.settings()).on_host("node01")) == uuids
    assert [one for one in api.asked if "detail" in one] == ["/servers/detail node01"] * 3


def test_one_server_comes_with_its_newest_migration(api: openstack_api.Api) -> None:
    api.add(ONE, "node01")
    for number, status in ((1, "completed"), (3, "error"), (2, "cancelled")):
        api.migrations.append({
            "id": number, "instance_uuid": ONE, "status": status, "source_compute": "node01",
            "dest_compute": "node02"})
    record = NovaApi(api.settings()).of(ONE)
    assert record is not None
    assert record.migration == "error, node01 to node02"


def test_a_server_that_nova_does_not_have_has_no_record(api: openstack_api.Api) -> None:
    assert NovaApi(api.settings()).of(ONE) is None


def test_a_cloud_of_clouds_yaml_will_do(api: openstack_api.Api, tmp_path: ty.Any,
                                        monkeypatch: pytest.MonkeyPatch) -> None:
    api.add(ONE, "node01")
    auth = "".join(f"      {key}: {value}\n" for key, value in api.settings().auth.items())
    (tmp_path / "clouds.yaml").write_text(
        f"clouds:\n  here:\n    region_name: one\n    interface: internal\n    auth:\n{auth}")
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(tmp_path / "clouds.yaml"))
    settings = conf.NovaApiSettings(timeout=10, origin="cloud here of clouds.yaml", cloud="here")
    assert list(NovaApi(settings).on_host("node01")) == [ONE]


def test_a_cloud_that_is_not_there_is_told_with_its_name(tmp_path: ty.Any,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(tmp_path / "clouds.yaml"))
    settings = conf.NovaApiSettings(timeout=10, origin="cloud gone of clouds.yaml", cloud="gone")
    with pytest.raises(errors.NovaApiUnavailable, match=r"cloud gone of clouds\.yaml"):
        NovaApi(settings).of(ONE)


@pytest.mark.parametrize("status", [400, 500, 503])
def test_an_api_that_fails_is_away(api: openstack_api.Api, status: int) -> None:
    api.status = status
    with pytest.raises(errors.NovaApiUnavailable, match=r"section \[test\]"):
        NovaApi(api.settings()).on_host("node01")


def test_a_user_who_may_not_see_all_is_told_apart(api: openstack_api.Api) -> None:
    api.status = 403
    with pytest.raises(errors.NovaApiForbids):
        NovaApi(api.settings()).on_host("node01")


def test_a_user_who_sees_no_host_is_told_apart(api: openstack_api.Api) -> None:
    api.add(ONE, "node01")
    del api.servers[0]["OS-EXT-SRV-ATTR:host"]
    with pytest.raises(errors.NovaApiForbids, match="OS-EXT-SRV-ATTR:host"):
        NovaApi(api.settings()).of(ONE)


def test_credentials_that_keystone_refuses_are_told(api: openstack_api.Api) -> None:
    api.login_status = 401
    with pytest.raises(errors.NovaApiUnavailable, match="401"):
        NovaApi(api.settings()).of(ONE)


def test_a_service_that_is_not_there_is_away(api: openstack_api.Api) -> None:
    settings = api.settings(auth_url="http://127.0.0.1:1/v3")
    with pytest.raises(errors.NovaApiUnavailable):
        NovaApi(settings).of(ONE)


def test_a_silent_api_costs_the_time_limit_and_no_more(api: openstack_api.Api) -> None:
    nova = NovaApi(api.settings(timeout=1.0))
    nova.on_host("node01")  # libraries are loaded, the token is there
    api.delay = 30.0
    began = time.monotonic()
    with pytest.raises(errors.NovaApiUnavailable):
        nova.on_host("node01")
    assert time.monotonic() - began < processes.patience(10)


def test_an_api_that_is_back_is_asked_again(api: openstack_api.Api) -> None:
    nova = NovaApi(api.settings())
    api.status = 503
    with pytest.raises(errors.NovaApiUnavailable):
        nova.on_host("node01")
    api.status = 200
    assert nova.on_host("node01") == {}


def test_neither_password_nor_token_is_ever_logged(api: openstack_api.Api,
                                                   caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    settings = api.settings()
    NovaApi(settings).on_host("node01")
    api.login_status = 401
    with pytest.raises(errors.NovaApiUnavailable) as told:
        NovaApi(api.settings()).on_host("node01")
    assert caplog.text, "nothing was logged: this proves nothing"
    for secret in (openstack_api.PASSWORD, openstack_api.TOKEN):
        assert secret not in caplog.text + repr(settings) + told.value.sentence


def test_a_worker_without_credentials_does_not_load_openstacksdk() -> None:
    code = ("import sys, rbd_worker.worker; "
            "print([m for m in sys.modules if m.split('.')[0] in ('openstack', 'keystoneauth1')])")
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True,
                          timeout=60, check=True)
    assert done.stdout.strip() == "[]"
