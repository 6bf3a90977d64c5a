"""Addresses as users write them."""

import pytest

from process.address import check_grpc_address, split_host_port


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:50051", ("127.0.0.1", 50051)),
        ("[::1]:80", ("::1", 80)),
        (":9464", ("", 9464)),
        ("localhost:0", ("localhost", 0)),
    ],
)
def test_good_addresses(address, expected):
    """Hosts, IPv6 in brackets and the empty host are understood."""
    assert split_host_port(address) == expected


@pytest.mark.parametrize("address", ["", "localhost", "localhost:", "a:b", "::1:80", "a:65536", "a:-1", "a:²"])
def test_bad_addresses_are_named(address):
    """What is no address is refused with its text."""
    with pytest.raises(ValueError, match=r"got"):
        split_host_port(address)


def test_grpc_addresses_may_be_absolute_unix_sockets():
    """A unix socket is taken with an absolute path only."""
    assert check_grpc_address("unix:/run/fps.sock") == "unix:/run/fps.sock"
    assert check_grpc_address("127.0.0.1:1") == "127.0.0.1:1"
    with pytest.raises(ValueError, match="absolute"):
        check_grpc_address("unix:fps.sock")
