# SPDX-License-Identifier: Apache-2.0
"""What confines a process, as the kernel words it for SELinux and AppArmor."""

import os
import pathlib

import pytest

from rbd_worker.host import confinement

VIRTQEMUD = "system_u:system_r:virtqemud_t:s0-s0:c0.c1023"


def label(tmp_path: pathlib.Path, text: str, enforce: str | None = None) -> str:
    attributes = tmp_path / "7/attr"
    attributes.mkdir(parents=True)
    (attributes / "current").write_text(text)
    if enforce is not None:
        (tmp_path / "enforce").write_text(enforce)
    return confinement.of(7, tmp_path, tmp_path / "enforce")


@pytest.mark.parametrize(("text", "enforce", "told"), [
    ("unconfined\n", None, ""), ("libvirtd (complain)\n", None, ""), ("", None, ""),
    ("libvirtd (enforce)\n", None, "libvirtd (enforce)"),
    ("a:b:c (enforce)\n", None, "a:b:c (enforce)"),
    (f"{VIRTQEMUD}\0", "1", VIRTQEMUD), (f"{VIRTQEMUD}\0", "0", ""),
    (f"{VIRTQEMUD}\0", None, VIRTQEMUD),
    ("unconfined_u:unconfined_r:unconfined_t:s0\0", "1", ""),
])
def test_only_a_label_that_counts_is_told(tmp_path: pathlib.Path, text: str, enforce: str | None,
                                          told: str) -> None:
    assert label(tmp_path, text, enforce) == told


def test_a_process_that_is_gone_is_not_taken_for_a_free_one(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FileNotFoundError):
        confinement.of(7, tmp_path)


def test_this_process_can_be_asked_about_on_any_kernel() -> None:
    assert isinstance(confinement.of(os.getpid()), str)
