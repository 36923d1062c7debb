# SPDX-License-Identifier: Apache-2.0
"""A configuration that does not work ends the start in one line, whoever reads the option."""

import pathlib
import subprocess
import sys

import pytest

WRONG = {
    "[DEFAULT] transport_url": "[DEFAULT]\ntransport_url =\n",
    "[DEFAULT] host": "[DEFAULT]\nhost = $nothing\n",
    "[DEFAULT] control_exchange": "[DEFAULT]\ncontrol_exchange = $nothing\n",
    "[DEFAULT] executor_thread_pool_size": "[DEFAULT]\nexecutor_thread_pool_size = many\n",
    "[oslo_messaging_rabbit] ssl": "[oslo_messaging_rabbit]\nssl = perhaps\n",
    "retry": "[oslo_messaging_notifications]\ndriver = messagingv2\nretry = now\n",
    "--debug": "[DEFAULT]\ndebug = maybe\n",
    "[DEFAULT] log_file, log_dir": "[DEFAULT]\nlog_dir = /proc/nowhere\n",
    "log_config_append": "[DEFAULT]\nlog_config_append = /nowhere\n",
}


@pytest.mark.parametrize("named", WRONG)
def test_a_start_is_refused_in_one_line(tmp_path: pathlib.Path, named: str) -> None:
    sound, wrong = tmp_path / "nova.conf", tmp_path / "wrong.conf"
    sound.write_text(f"[DEFAULT]\nhost = node01\nstate_path = {tmp_path}\n"
                     "transport_url = rabbit://guest:secret@127.0.0.1:1/\n"
                     "[libvirt]\nimages_type = rbd\nrbd_user = nova\n"
                     "[rbd_worker]\nmetrics_listen =\n")
    wrong.write_text(WRONG[named])
    done = subprocess.run(
        [pathlib.Path(sys.executable).with_name("rbd-worker"), "--config-file", sound,
         "--config-file", wrong], text=True, capture_output=True, timeout=60)
    assert done.returncode == 1
    said = done.stdout + done.stderr
    told = [line for line in said.splitlines() if " INFO " not in line
            and " runs as root: " not in line]
    assert len(told) == 1, said
    assert named in told[0]
    assert "errors.BadConfiguration" not in told[0], "it is said once"
    assert "secret" not in said
