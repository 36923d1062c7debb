# SPDX-License-Identifier: Apache-2.0
"""libvirt's errors of a move, by their numbers in virterror.h."""

import libvirt
import pytest

from rbd_worker import errors
from rbd_worker.host import move_errors

QEMU, RPC, REMOTE, DOMAIN = 10, 7, 13, 20


def libvirts(code: int, domain: int = QEMU, text: str = "some reason") -> libvirt.libvirtError:
    error = libvirt.libvirtError("")
    error.err = (code, domain, text, 2, None, None, None, -1, -1)
    error.args = (text,)
    return error


def sorted_as(code: int, domain: int = QEMU, text: str = "some reason") -> errors.Error:
    return move_errors.sorted_error("the-guest", libvirts(code, domain, text))


@pytest.mark.parametrize(("code", "domain", "text"), [
    (38, RPC, "unable to connect to server at 'node2:16509': Connection refused"),
    (38, RPC, "End of file while reading data: Input/output error"),
    (38, QEMU, "Failed to create file"),
    (39, RPC, "received hangup event on socket"),
    (1, RPC, "internal error: client socket is closed"),
    (1, REMOTE, "internal error: client socket is closed"),
    (68, QEMU, "Timed out during operation: cannot acquire state change lock"),
    (86, QEMU, "Guest agent is not responding"),
    (87, QEMU, "resource busy"),
    (9, DOMAIN, "operation failed: domain x max_queued was exceeded"),
])
def test_it_may_be_ordered_again_after(code: int, domain: int, text: str):
    assert type(sorted_as(code, domain, text)) is errors.MoveInterrupted


@pytest.mark.parametrize("code", [66, 65, 45, 79, 94, 88, 29, 81, 67, 91, 28, 70, 27, 35, 3, 74,
                                  8])
def test_repeating_cannot_help_and_a_remedy_is_named_after(code: int):
    error = sorted_as(code)
    assert type(error) is errors.MoveRefused
    assert len(error.data["fix"]) > 20
    assert error.data["fix"] in error.sentence


@pytest.mark.parametrize(("code", "domain", "text"), [
    (42, QEMU, "Domain not found"),
    (55, QEMU, "Requested operation is not valid: domain is not running"),
    (69, QEMU, "Failed to make domain persistent after migration"),
    (78, QEMU, "operation aborted: job 'migration out' canceled by client"),
    (9, QEMU, "operation failed: job 'migration out' failed: Unable to write to socket"),
    (9, DOMAIN, "operation failed: domain is not running"),
    (1, QEMU, "internal error: qemu unexpectedly closed the monitor"),
    (12345, QEMU, "an error of a libvirt of the future"),
])
def test_where_the_guest_is_has_to_be_asked_after(code: int, domain: int, text: str):
    assert type(sorted_as(code, domain, text)) is errors.MoveUnsettled


def test_every_error_of_libvirt_has_one_place():
    tables = [move_errors.TRANSIENT, set(move_errors.PERMANENT), move_errors.UNDECIDED]
    for number, one in enumerate(tables):
        for other in tables[number + 1:]:
            assert not one & other


def test_what_libvirt_said_and_what_was_done_meanwhile_are_both_told():
    error = move_errors.sorted_error("the-guest", libvirts(78), "not complete after 2 s: abort")
    assert "some reason" in str(error) and "not complete after 2 s: abort" in str(error)


GUEST = "11111111-2222-4333-8444-000000000001"


def _about_a_path(text: str, domain: int = QEMU) -> errors.Error:
    return move_errors.sorted_error(GUEST, libvirts(38, domain, text))


def test_a_missing_instance_directory_is_not_asked_for_again():
    error = _about_a_path(f"Failed to create file '/var/lib/nova/instances/{GUEST}/console.log': "
                          "No such file or directory")
    assert type(error) is errors.MoveRefused
    assert "compare instances_path on both hosts" in error.sentence


@pytest.mark.parametrize(("text", "domain"), [
    ("Failed to connect socket to '/run/libvirt/libvirt-sock': No such file or directory", RPC),
    (f"Cannot open '/x/{GUEST}/sock': No such file or directory", RPC),
    ("Failed to create file '/var/lib/other/console.log': No such file or directory", QEMU),
    (f"Failed to create file '/x/{GUEST}/console.log': Permission denied", QEMU),
    (f"Failed to create file '/x/{GUEST}/console.log': Datei oder Verzeichnis nicht gefunden",
     QEMU)])
def test_what_is_not_surely_the_instance_directory_may_be_tried_again(text: str, domain: int):
    assert type(_about_a_path(text, domain)) is errors.MoveInterrupted
