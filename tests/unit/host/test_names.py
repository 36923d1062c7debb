# SPDX-License-Identifier: Apache-2.0
"""Names without an address, and addresses that are names of themselves."""

import pytest

from rbd_worker import errors
from rbd_worker.host import names


@pytest.mark.parametrize(("name", "found"), [
    ("192.0.2.1", ["192.0.2.1"]), ("[2001:db8::1]", ["2001:db8::1"]), ("fe80::1%lo", ["fe80::1"])])
def test_an_address_is_itself(name: str, found: list[str]) -> None:
    assert names.addresses(name) == found


def test_a_name_without_an_address_says_so_and_what_to_do() -> None:
    with pytest.raises(errors.NameUnresolved, match=r"node2\.invalid does not resolve") as caught:
        names.addresses("node2.invalid")
    assert "Add node2.invalid to DNS" in caught.value.sentence
