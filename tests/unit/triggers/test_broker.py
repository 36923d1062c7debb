# SPDX-License-Identifier: Apache-2.0
import pathlib
import ssl

import hypothesis
import pytest
from hypothesis import strategies as st
from oslo_config import cfg

from rbd_worker import errors
from rbd_worker.triggers import broker

PASSWORD = "planted-secret"


def read(tmp_path: pathlib.Path, text: str) -> broker.BrokerSettings:
    """As from a nova.conf with this text."""
    path = tmp_path / "nova.conf"
    path.write_text(text)
    conf = cfg.ConfigOpts()
    conf(["--config-file", str(path)])
    return broker.from_conf(conf)


def read_url(tmp_path: pathlib.Path, url: str, rabbit: str = "") -> broker.BrokerSettings:
    return read(tmp_path, f"[DEFAULT]\ntransport_url = {url}\n[oslo_messaging_rabbit]\n{rabbit}\n")


def test_a_plain_url_is_read(tmp_path):
    settings = read_url(tmp_path, f"rabbit://nova:{PASSWORD}@rabbit1:5673/cloud")
    assert settings.hosts == (broker.BrokerHost("rabbit1", 5673, "nova", PASSWORD),)
    assert (settings.virtual_host, settings.tls, settings.is_memory) == ("cloud", None, False)


def test_several_hosts_each_have_their_own_credentials(tmp_path):
    settings = read_url(tmp_path, "rabbit://a:1@h1,b:2@h2:5679,c:3@[fd00::3]:5670/")
    assert settings.hosts == (broker.BrokerHost("h1", 5672, "a", "1"),
                              broker.BrokerHost("h2", 5679, "b", "2"),
                              broker.BrokerHost("fd00::3", 5670, "c", "3"))
    assert settings.url == "rabbit://h1:5672,h2:5679,[fd00::3]:5670/%2F"


def test_escapes_in_user_password_and_vhost_are_undone(tmp_path):
    settings = read_url(tmp_path, "rabbit://no%40va:p%2Fa%3As%40s%23@h/my%2Fvhost")
    assert settings.hosts == (broker.BrokerHost("h", 5672, "no@va", "p/a:s@s#"),)
    assert settings.virtual_host == "my/vhost"


@pytest.mark.parametrize(("path", "vhost"), [("", "/"), ("/", "/"), ("//", "/"), ("/%2F", "/"),
                                             ("/nova", "nova"), ("//nova", "/nova")])
def test_the_vhost_is_what_oslo_messaging_takes(tmp_path, path, vhost):
    assert read_url(tmp_path, f"rabbit://u:p@h{path}").virtual_host == vhost


def test_without_a_url_the_local_broker_is_asked_as_by_oslo_messaging(tmp_path):
    settings = read(tmp_path, "")
    assert settings.hosts == (broker.BrokerHost("localhost", 5672, "guest", "guest"),)


@pytest.mark.parametrize("url", ["fake://", "memory://", "kombu+memory://"])
def test_the_demos_transports_stay_in_memory(tmp_path, url):
    settings = read_url(tmp_path, url)
    assert (settings.is_memory, settings.url) == (True, "memory://")


def test_novas_exchange_is_taken_although_nova_sets_it_in_its_code(tmp_path):
    assert read(tmp_path, "").control_exchange == "nova"
    assert read(tmp_path, "[DEFAULT]\ncontrol_exchange = cell1").control_exchange == "cell1"


def test_the_rabbit_section_is_read(tmp_path):
    settings = read_url(tmp_path, "rabbit://u:p@h", (
        "heartbeat_timeout_threshold = 15\nrabbit_retry_interval = 2\nrabbit_retry_backoff = 3\n"
        "rabbit_interval_max = 9\namqp_auto_delete = true\nrabbit_login_method = PLAIN"))
    assert (settings.heartbeat, settings.retry_start, settings.retry_step,
            settings.retry_max) == (15, 2, 3, 9)
    assert (settings.auto_delete, settings.login_method) == (True, "PLAIN")


@pytest.mark.parametrize(("rabbit", "durable", "quorum"), [
    ("", False, False), ("amqp_durable_queues = true", True, False),
    ("rabbit_quorum_queue = true", True, True)])
def test_durable_and_quorum_queues_are_known(tmp_path, rabbit, durable, quorum):
    settings = read_url(tmp_path, "rabbit://u:p@h", rabbit)
    assert (settings.durable, settings.quorum) == (durable, quorum)


def test_the_urls_query_wins_over_the_section(tmp_path):
    settings = read_url(tmp_path, "rabbit://u:p@h/?heartbeat_timeout_threshold=7&ssl=true",
                        "heartbeat_timeout_threshold = 15")
    assert settings.heartbeat == 7
    assert settings.tls == broker.TlsSettings()


def test_tls_files_are_handed_to_the_connection(tmp_path):
    for name in ("ca", "cert", "key"):
        (tmp_path / name).write_text("x")
    settings = read_url(tmp_path, "rabbit://u:p@h", (
        f"ssl = true\nssl_ca_file = {tmp_path}/ca\nssl_cert_file = {tmp_path}/cert\n"
        f"ssl_key_file = {tmp_path}/key\nssl_version = TLSv1_2"))
    assert settings.tls is not None
    assert settings.tls.arguments("h") == {
        "ca_certs": f"{tmp_path}/ca", "cert_reqs": ssl.CERT_REQUIRED, "server_hostname": "h",
        "certfile": f"{tmp_path}/cert", "keyfile": f"{tmp_path}/key",
        "ssl_version": ssl.PROTOCOL_TLSv1_2}


def test_tls_without_files_is_still_tls():
    assert broker.TlsSettings().arguments("h") is True


@pytest.mark.parametrize(("url", "rabbit", "option"), [
    ("kafka://h", "", "[DEFAULT] transport_url"),
    ("rabbit:h", "ssl_version = TLSv9\nssl = true", "[oslo_messaging_rabbit] ssl_version"),
    ("rabbit://u:p@h", "ssl = true\nssl_ca_file = /not/there",
     "[oslo_messaging_rabbit] ssl_ca_file"),
    ("rabbit://u:p@h", "rabbit_login_method = RABBIT-CR-DEMO",
     "[oslo_messaging_rabbit] rabbit_login_method"),
    ("rabbit://u:p@h/?ssl=perhaps", "", "[DEFAULT] transport_url"),
])
def test_an_unusable_value_is_refused_by_the_options_name(tmp_path, url, rabbit, option):
    with pytest.raises(errors.BadConfiguration) as caught:
        read_url(tmp_path, url, rabbit)
    assert caught.value.data["option"] == option
    assert caught.value.data["fix"]


@pytest.mark.parametrize("url", [
    f"rabbit://nova:1/{PASSWORD}@h/", f"rabbit://nova:a/{PASSWORD}@h/",
    f"rabbit://nova:1?{PASSWORD}@h/", f"rabbit://nova:1#{PASSWORD}@h/",
    f"rabbit://nova:{PASSWORD}@h:port/", f"rabbit://nova:{PASSWORD}@[fd00::1/",
    f"nova:{PASSWORD}@h", f"rabbit://nova:@/{PASSWORD}@h/", f"rabbit://nova:a@b/{PASSWORD}@h/v",
    f"rabbit://u:p@h/#{PASSWORD}"])
def test_a_url_that_cannot_be_read_is_never_quoted(tmp_path, url):
    with pytest.raises(errors.BadConfiguration) as caught:
        read_url(tmp_path, url)
    assert caught.value.data["option"] == "[DEFAULT] transport_url"
    assert PASSWORD not in caught.value.sentence
    assert caught.value.__suppress_context__


@hypothesis.given(st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=12))
def test_no_password_is_ever_shown(junk):
    """Whatever else stands in it, as it is or escaped: readable or refused, never quoted."""
    conf = cfg.ConfigOpts()
    conf([])
    broker.register(conf)
    conf.set_override("transport_url", f"rabbit://nova:{junk}{PASSWORD}@h/v")
    try:
        settings = broker.from_conf(conf)
    except errors.BadConfiguration as e:
        assert PASSWORD not in e.sentence
    else:
        assert PASSWORD not in f"{settings!r} {settings.url}"
