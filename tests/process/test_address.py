"""Addresses as users write them."""

import pytest

from process.address import check_grpc_address, mask_password, split_host_port


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
    """An invalid address is rejected, and the error shows it."""
    with pytest.raises(ValueError, match=r"got"):
        split_host_port(address)


@pytest.mark.parametrize(
    ("address", "scheme"),
    [
        ("http://127.0.0.1:50051", "http://"),
        ("HTTPS://sidecar:50051/", "HTTPS://"),
        ("dns:///sidecar:50051", "dns:///"),
        ("dns:sidecar:50051", "dns:"),
        ("ipv6:[::1]:50051", "ipv6:"),
        ("unix-abstract:fps", "unix-abstract:"),
    ],
)
def test_an_address_with_a_scheme_is_told_so(address, scheme):
    """Both kinds of addresses have no scheme, and the error names it; a host may be called like a scheme."""
    for check in (split_host_port, check_grpc_address):
        with pytest.raises(ValueError, match=f"expected HOST:PORT without '{scheme}'"):
            check(address)
    assert check_grpc_address("dns:50051") == "dns:50051"


def test_grpc_addresses_may_be_absolute_unix_sockets():
    """A unix socket needs an absolute path."""
    assert check_grpc_address("unix:/run/fps.sock") == "unix:/run/fps.sock"
    assert check_grpc_address("127.0.0.1:1") == "127.0.0.1:1"
    with pytest.raises(ValueError, match="absolute"):
        check_grpc_address("unix:fps.sock")


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("redis://h:6379/0", "redis://h:6379/0"),
        ("redis://:secret@h:6379/0", "redis://:***@h:6379/0"),
        ("rediss://me:secret%2F@h/0", "rediss://me:***@h/0"),
        ("redis://me@h/0", "redis://me@h/0"),
        ("redis://h/0?password=secret&db=1", "redis://h/0?password=***&db=1"),
        ("unix://me:secret@/run/redis.sock", "unix://me:***@/run/redis.sock"),
        ("rtsp://user:se@cret@camera/stream", "rtsp://user:***@camera/stream"),
        ("rtsp://camera:554/a@b", "rtsp://camera:554/a@b"),
        ("film@home.mp4", "film@home.mp4"),
    ],
)
def test_passwords_are_masked(url, masked):
    """Only the password of a URL is replaced."""
    assert mask_password(url) == masked
