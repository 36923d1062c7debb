# SPDX-License-Identifier: Apache-2.0
"""What to do about a connection to another host's libvirt that does not open."""

import typing as ty

#: Words of libvirt's, gnutls' and ssh's sentences; the first that is found counts.
_REMEDIES: ty.Final = (
    ("host key verification failed",
     "Put the host key of the destination into known_hosts of the user that libvirtd or "
     "virtqemud runs as (ssh-keyscan, and compare it), or correct the one that is there"),
    ("permission denied",
     "Put the public key of the user that libvirtd or virtqemud runs as into authorized_keys "
     "of the user that the migration URI names"),
    ("certificate",
     "See the row route.certificate; the client's certificate has to be in /etc/pki/libvirt "
     "here, the server's in /etc/pki/libvirt there, both of the CA in /etc/pki/CA/cacert.pem"),
    ("authentication",
     "Let this host in: SASL credentials (auth.conf) for auth_tcp or auth_tls = sasl there"),
    ("not resolve", "Add the name to DNS or /etc/hosts"),
    ("unable to resolve", "Add the name to DNS or /etc/hosts"),
    ("name or service not known", "Add the name to DNS or /etc/hosts"),
    ("refused",
     "Nothing listens there, or a firewall says no: see the row libvirt.listener of the "
     "destination"),
    ("no route to host", "See the routing tables and firewalls between the two hosts"),
)
_SILENCE: ty.Final = {
    "tcp": "Open TCP port 16509 from here to the destination, see its row libvirt.listener",
    "tls": "Open TCP port 16514 from here to the destination, see its row libvirt.listener",
    "ssh": "Open TCP port 22 from here to the destination; ssh may not ask for anything there "
           "(try: ssh -o BatchMode=yes)",
}


def remedy(text: str, transport: str) -> str:
    """What to do about libvirt's sentence; what it did not say is about the way itself."""
    lowered = text.lower()
    for words, what in _REMEDIES:
        if words in lowered:
            return what
    return _SILENCE.get(transport, "See that the URI opens with virsh -c")
