# SPDX-License-Identifier: Apache-2.0
"""From a message to its cause and remedy: libvirt's, QEMU's, Ceph's, Nova's and our own.

One module for each program that says something; ``lookup`` finds what is
known of a text.  Pure data and regular expressions, so that the command that
shows it starts fast and works on a host where nothing else does.
"""
