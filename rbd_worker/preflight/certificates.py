# SPDX-License-Identifier: Apache-2.0
"""The certificate that a destination's libvirt shows, judged as libvirt judges it."""

import os
import socket
import ssl
import time

from rbd_worker.preflight.bench import Rows, Say

#: libvirt's places; the last two are this host's own, which it shows.
AUTHORITY = "/etc/pki/CA/cacert.pem"
CLIENT, KEY = "/etc/pki/libvirt/clientcert.pem", "/etc/pki/libvirt/private/clientkey.pem"
#: Days before its end from which a certificate is worth a warning.
WARN_DAYS = 14


def rows(address: str, port: int, seconds: float, say: Say, authority: str = AUTHORITY) -> Rows:
    """Whether the certificate there is of our CA, for this name, and valid for a while.

    :param address: the name that the migration URI has; libvirt compares it.
    :param authority: path of the CA's certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(authority)
        if os.access(KEY, os.R_OK):  # root's; without it the server ends after it showed its own
            context.load_cert_chain(CLIENT, KEY)
    except (OSError, ssl.SSLError) as e:
        yield say.failed(f"the certificates of this host cannot be used: {e}",
                         f"Put the CA's certificate into {authority} and this host's into "
                         f"{CLIENT}")
        return
    try:
        with (socket.create_connection((address.strip("[]"), port), seconds) as plain,
              context.wrap_socket(plain, server_hostname=address.strip("[]")) as secured):
            shown = secured.getpeercert() or {}
    except ssl.SSLCertVerificationError as e:
        yield say.failed(f"{address} port {port}: {e.verify_message}",
                         f"Give the destination a certificate of this host's CA ({authority}) "
                         f"that is valid now and names {address} (subjectAltName), and restart "
                         "its libvirtd or virtproxyd")
        return
    except (OSError, ssl.SSLError) as e:
        yield say.unknown(f"{address} port {port} showed no certificate: {e}",
                          "See the row route.libvirt")
        return
    ends = str(shown["notAfter"])
    days = (ssl.cert_time_to_seconds(ends) - time.time()) / 86400
    if days < WARN_DAYS:
        yield say.warning(f"the certificate of {address} ends in {days:.0f} days, on {ends}",
                          "Renew it, and restart libvirtd or virtproxyd there")
    else:
        yield say.ok(f"the certificate names {address} and is valid until {ends}")
