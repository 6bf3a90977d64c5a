"""Which addresses need TLS, and certificates that are replaced."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from support.tls import Authority, Pair

from sidecar.tls import ReloadedCertificate, TlsFiles, is_private, listen_error

PRIVATE = ["127.0.0.1:1", "127.8.9.1:1", "[::1]:1", "localhost:1", "unix:/run/fps.sock"]
PUBLIC = ["0.0.0.0:1", ":1", "[::]:1", "10.0.0.1:1", "sidecar.internal:1"]


@pytest.mark.parametrize("address", [*PRIVATE, *PUBLIC])
def test_only_addresses_of_this_machine_are_private(address: str) -> None:
    """A name other than localhost counts as public, whatever it resolves to."""
    assert is_private(address) is (address in PRIVATE)


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_needs_a_certificate_or_consent(address: str) -> None:
    """The error names the first such address and the flags."""
    addresses = [*PRIVATE, address]
    error = listen_error(addresses, has_certificate=False, insecure=False)
    assert error is not None
    assert error.startswith(f"{address} can be reached from other machines: pass --tls-cert and --tls-key")
    assert listen_error(addresses, has_certificate=True, insecure=False) is None
    assert listen_error(addresses, has_certificate=False, insecure=True) is None
    assert listen_error(PRIVATE, has_certificate=False, insecure=False) is None


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Signs certificates."""
    return Authority(tmp_path)


@pytest.fixture
def pair(authority: Authority, tmp_path: Path) -> Pair:
    """The files of the server."""
    folder = tmp_path / "server"
    folder.mkdir()
    return Pair(*(Path(shutil.copy(path, folder)) for path in authority.sign("first")))


@pytest.fixture
def fetch(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """What gRPC calls before each handshake; None means no change."""
    fetchers: list[Callable[[], Any]] = []

    def credentials(_configuration: object, fetcher: Callable[[], Any], **_: object) -> None:
        fetchers.append(fetcher)

    monkeypatch.setattr(grpc, "dynamic_ssl_server_credentials", credentials)
    ReloadedCertificate(TlsFiles(*pair)).credentials()
    return fetchers[0]


def replace(pair: Pair, by: Pair) -> None:
    """Replaces both files."""
    shutil.copy(by.certificate, pair.certificate)
    shutil.copy(by.key, pair.key)


def test_the_files_are_read_again_when_they_change(
    fetch: Callable[[], Any], pair: Pair, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    """A new pair is returned once."""
    assert fetch() is None
    replace(pair, authority.sign("second"))
    with caplog.at_level(logging.INFO):
        assert isinstance(fetch(), grpc.ServerCertificateConfiguration)
    assert fetch() is None
    (line,) = caplog.records
    assert (line.message, vars(line)["path"]) == ("reloaded the certificate", str(pair.certificate))


def test_a_pair_that_doesnt_fit_leaves_the_current_one(
    fetch: Callable[[], Any], pair: Pair, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    """While only one file is replaced, or one is missing, nothing changes; each such state is logged once."""
    second = authority.sign("second")
    shutil.copy(second.certificate, pair.certificate)
    assert fetch() is None
    assert fetch() is None
    assert [record.message for record in caplog.records] == ["keeping the current certificate, the new one isn't valid"]
    assert "aren't a certificate and its unencrypted key" in vars(caplog.records[0])["error"]
    pair.key.unlink()
    assert fetch() is None
    assert "No such file" in vars(caplog.records[1])["error"]
    shutil.copy(second.key, pair.key)
    assert fetch() is not None


def test_missing_files_are_an_error_at_start(tmp_path: Path, authority: Authority) -> None:
    """There is nothing to keep."""
    with pytest.raises(FileNotFoundError):
        ReloadedCertificate(TlsFiles(tmp_path / "nowhere", tmp_path / "nowhere"))
    files = TlsFiles(*authority.sign("client"), authority.certificate)
    assert files.error() is None
    assert isinstance(ReloadedCertificate(files).credentials(), grpc.ServerCredentials)
