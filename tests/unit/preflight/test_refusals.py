# SPDX-License-Identifier: Apache-2.0
"""Each way in which a connection to libvirt is refused has its own remedy."""

import pytest

from rbd_worker.preflight import refusals

#: As libvirt 9.0 and OpenSSH 9.2 word them.
SENTENCES = {
    "unable to connect to server at '198.18.77.12:16509': Connection refused": "libvirt.listener",
    "Cannot recv data: Host key verification failed.: Connection reset by peer": "known_hosts",
    "Cannot recv data: root@198.18.77.12: Permission denied (publickey).: Connection reset by "
    "peer": "authorized_keys",
    "The server certificate doesn't have the hostname": "route.certificate",
    "unable to connect to server at '198.18.77.12:16509': No route to host": "firewalls",
    "authentication failed: authentication failed": "SASL",
}


@pytest.mark.parametrize("sentence", SENTENCES)
def test_what_libvirt_says_has_its_remedy(sentence: str) -> None:
    assert SENTENCES[sentence] in refusals.remedy(sentence, "tcp")


@pytest.mark.parametrize(("transport", "word"), [
    ("tcp", "16509"), ("tls", "16514"), ("ssh", "BatchMode"), ("unix", "virsh -c")])
def test_silence_is_about_the_way_itself(transport: str, word: str) -> None:
    assert word in refusals.remedy("no answer within 3 s", transport)
