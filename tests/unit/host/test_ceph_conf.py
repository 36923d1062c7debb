# SPDX-License-Identifier: Apache-2.0
"""Lists of monitors that are none: no list at all is better than half of one."""

import pathlib

import pytest

from rbd_worker.host import ceph_conf


@pytest.mark.parametrize("value", [
    "a:0", "a:65536", "10.0.0.1,b:70000", "²:1", "a b:c", "[.]", "[v1:[::::]:6789]",
    "10.0.0.1:123456", "a:6789b", "10.0.0.1:6789/0x"])
def test_a_list_with_something_odd_gives_no_monitors(tmp_path: pathlib.Path, value: str) -> None:
    path = tmp_path / "ceph.conf"
    path.write_text(f"[global]\nmon_host = {value}\n")
    assert ceph_conf.monitors(str(path), "nova") == ()
