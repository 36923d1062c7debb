# SPDX-License-Identifier: Apache-2.0
"""nova.conf as it was before transport_url, and before the options of TLS were renamed."""

import pytest
from oslo_config import cfg

from rbd_worker import errors
from rbd_worker.triggers import broker
from rbd_worker.triggers.broker import BrokerHost
from rpcapi import client
from tests.unit.triggers.test_broker import PASSWORD, read, read_url

RABBIT = "[oslo_messaging_rabbit]\n"


@pytest.mark.parametrize("section", ["[DEFAULT]\n", RABBIT])
def test_an_address_in_parts_is_read_from_either_section(tmp_path, section):
    settings = read(tmp_path, section + (
        "rpc_backend = rabbit\nrabbit_host = 10.0.0.9\nrabbit_port = 5673\n"
        "rabbit_userid = nova\nrabbit_password = a:b/c@d\nrabbit_virtual_host = /nova\n"))
    assert settings.hosts == (BrokerHost("10.0.0.9", 5673, "nova", "a:b/c@d"),)
    assert settings.virtual_host == "/nova"


def test_several_hosts_have_one_account(tmp_path):
    settings = read(tmp_path, RABBIT + (
        "rabbit_hosts = a:5673, b,[fd00::5]:5674\nrabbit_userid = nova\nrabbit_password = p\n"
        "rabbit_port = 5671"))
    assert settings.hosts == tuple(BrokerHost(name, port, "nova", "p") for name, port in (
        ("a", 5673), ("b", 5671), ("fd00::5", 5674)))
    assert settings.virtual_host == "/"


def test_a_password_alone_is_that_of_guest_on_this_host(tmp_path):
    assert read(tmp_path, "[DEFAULT]\nrabbit_password = s3").hosts == (
        BrokerHost("localhost", 5672, "guest", "s3"),)


def test_a_transport_url_wins(tmp_path):
    settings = read_url(tmp_path, "rabbit://u:p@h", "rabbit_host = other")
    assert settings.hosts == (BrokerHost("h", 5672, "u", "p"),)


@pytest.mark.parametrize("section", ["[DEFAULT]\n", RABBIT])
def test_tls_under_its_former_names_is_tls(tmp_path, section):
    for name in ("ca", "cert", "key", "new"):
        (tmp_path / name).write_text("x")
    former = section + (
        f"rabbit_use_ssl = true\nkombu_ssl_ca_certs = {tmp_path}/ca\n"
        f"kombu_ssl_certfile = {tmp_path}/cert\nkombu_ssl_keyfile = {tmp_path}/key\n"
        "kombu_ssl_version = TLSv1_2\n")
    assert read(tmp_path, former).tls == broker.TlsSettings(
        f"{tmp_path}/ca", f"{tmp_path}/cert", f"{tmp_path}/key", "PROTOCOL_TLSv1_2")
    newer = read(tmp_path, former + ("" if section == RABBIT else RABBIT)
                 + f"ssl_ca_file = {tmp_path}/new\n")
    assert newer.tls is not None
    assert newer.tls.ca_file == f"{tmp_path}/new"


def test_calls_between_workers_go_to_the_same_place(tmp_path):
    (tmp_path / "nova.conf").write_text(
        "[DEFAULT]\nrabbit_host = 10.0.0.9\nrabbit_password = p\nrabbit_use_ssl = true\n")
    conf = cfg.ConfigOpts()
    conf(["--config-file", str(tmp_path / "nova.conf")])
    broker.from_conf(conf)
    transport = client.transport_for(conf)
    assert "10.0.0.9" in str(transport.conf.transport_url)
    assert transport.conf.oslo_messaging_rabbit.ssl is True
    transport.cleanup()


@pytest.mark.parametrize(("line", "option"), [
    ("rabbit_port = many", "rabbit_port"), ("rabbit_use_ssl = perhaps", "rabbit_use_ssl"),
    (f"rabbit_hosts = {PASSWORD}:x", "transport_url")])
def test_an_unfit_value_is_refused_by_the_options_name(tmp_path, line, option):
    with pytest.raises(errors.BadConfiguration, match=option) as caught:
        read(tmp_path, RABBIT + line)
    assert PASSWORD not in str(caught.value)
