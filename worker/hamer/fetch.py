"""``hand-counter models fetch --hamer``: the official weights, after consent to their licences.

The archive has about 6 GB, so an interrupted download continues where it stopped. Nothing is used unless its SHA-256 is
the expected one, and only the two files that inference needs are extracted, to names chosen here. Needs neither torch
nor cv2.
"""

import errno
import http.client
import shutil
import tarfile
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from worker.download import CHUNK_BYTES, Progress, WrongDigestError, download_progress, sha256_of, write_checked

LICENCE = """\
[bold]HaMeR's weights belong to others, and aren't free for every use.[/bold]

* They contain the hand model [bold]MANO[/bold] (https://mano.is.tue.mpg.de): for
  non-commercial scientific research only, no redistribution; its terms forbid
  commercial, military and [bold]surveillance[/bold] use. Check them before you point this
  at camera streams.
* The weights have no licence of their own. They were trained on ten data sets,
  each with its own terms (FreiHAND, InterHand2.6M, MTC, RHD, COCO-WholeBody,
  Halpe, MPII-NZSL, HO3D, H2O3D, DexYCB): for research only, unless you have
  cleared them.
* HaMeR's code is under the MIT licence; none of it is used here.
"""


class FetchError(Exception):
    """The weights couldn't be downloaded; the text has the reason and what to do."""


@dataclass(frozen=True)
class Release:
    """A published archive.

    Attributes:
        url: its address.
        sha256: of the archive.
        members: what to extract: name in the archive, path below the target folder, and SHA-256 of the content.
    """

    url: str
    sha256: str
    members: tuple[tuple[str, str, str], ...]


OFFICIAL = Release(
    url="https://www.cs.utexas.edu/~pavlakos/hamer/data/hamer_demo_data.tar.gz",
    sha256="ccfb70abd672b64c3ea90891c808d4499cc36a37dd6cf86c561a665113aef11e",
    members=(
        (
            "_DATA/hamer_ckpts/checkpoints/hamer.ckpt",
            "hamer_ckpts/checkpoints/hamer.ckpt",
            "e5cc06f294d88a92dee24e603480aab04de532b49f0e08200804ee7d90e16f53",
        ),
        (
            "_DATA/hamer_ckpts/model_config.yaml",
            "hamer_ckpts/model_config.yaml",
            "0e5eeb82752e47dfd01db8e13ccc4c5eba9bf83f53da8285523b8d3e87247aa3",
        ),
    ),
)


@dataclass(frozen=True)
class Patience:
    """How much of a bad connection to accept.

    Attributes:
        timeout: seconds without a byte after which a connection is given up.
        retries: consecutive connections without a byte after which the download is given up.
        pause: waits the given number of seconds before the next connection.
    """

    timeout: float = 60.0
    retries: int = 5
    pause: Callable[[float], None] = field(default=time.sleep)


def fetch_hamer(
    folder: Path,
    *,
    accept_licence: bool,
    stream: TextIO,
    ask: Callable[[str], str] | None = None,
    release: Release = OFFICIAL,
    patience: Patience | None = None,
) -> Path:
    """Puts the official checkpoint and its config below a folder.

    Args:
        folder: created if need be. Holds the partial download until it is complete.
        accept_licence: the user has consented already.
        stream: where licences and progress are shown.
        ask: asks the user a question and returns the answer; None if there is nobody to ask.
        release: what to download.
        patience: with a bad connection.

    Returns:
        The checkpoint's path, for `--hamer-checkpoint`.

    Raises:
        FetchError: there is no consent, no connection or no space, or the bytes aren't the expected ones.
    """
    targets = {name: (folder / target, digest) for name, target, digest in release.members}
    checkpoint = next(iter(targets.values()))[0]
    if all(path.is_file() and sha256_of(path) == digest for path, digest in targets.values()):
        return checkpoint
    from rich.console import Console  # imported only here: it is slow, and most starts don't need it

    Console(file=stream).print(LICENCE)
    if not accept_licence:
        if ask is None:
            raise FetchError("there is nobody to ask for consent: read the licences above and pass --accept-licence")
        if ask("Do you agree to these terms? [y/N] ").strip().lower() not in ("y", "yes"):
            raise FetchError("not downloaded: the licences weren't accepted")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        archive = folder / release.url.rsplit("/", 1)[1]
        with download_progress(stream, f"downloading {archive.name}") as progress:
            download(release.url, archive, release.sha256, progress=progress, patience=patience or Patience())
        with download_progress(stream, f"extracting from {archive.name}") as progress:
            extract(archive, targets, progress=progress)
        archive.unlink()
    except OSError as e:
        raise FetchError(f"{e.filename or folder}: {e.strerror or e}") from e
    return checkpoint


def download(url: str, target: Path, sha256: str, *, progress: Progress, patience: Patience) -> None:
    """Downloads a file, continuing after the bytes of an earlier attempt; it gets its name only if its bytes are right.

    Raises:
        FetchError: the connection failed for good, the disk is too small, or the bytes aren't the expected ones.
    """
    if target.is_file() and sha256_of(target) == sha256:
        return
    part = target.with_name(target.name + ".part")
    failures = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            complete = _continue(url, part, patience.timeout, progress)
        except urllib.error.HTTPError as e:
            e.close()
            if e.code < 500 and e.code not in (408, 429):
                raise FetchError(f"{url}: {e.code} {e.reason}") from e
            problem = f"{e.code} {e.reason}"
        except (OSError, http.client.HTTPException) as e:
            if isinstance(e, OSError) and (e.filename or e.errno in (errno.ENOSPC, errno.EDQUOT)):
                raise  # the disk, not the network
            problem = str(e) or type(e).__name__
        else:
            if complete:
                break
            problem = "the connection broke"
        grown = (part.stat().st_size if part.exists() else 0) > before
        failures = 1 if grown else failures + 1
        if failures > patience.retries:
            raise FetchError(f"{url}: {problem}; run the command again to continue after {before:,} bytes")
        patience.pause(min(2.0**failures, 30.0))
    if (found := sha256_of(part)) != sha256:
        part.unlink()
        raise FetchError(f"{url}: the SHA-256 is {found} instead of {sha256}; the download was deleted")
    part.replace(target)


def _continue(url: str, part: Path, timeout: float, progress: Progress) -> bool:
    """Downloads the missing bytes of a file; returns whether it is complete now."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as e:
        if e.code != 416:
            raise
        # There is nothing after the bytes we have: they are all, or more than the file on the server has.
        length = e.headers.get("Content-Range", "").rpartition("/")[2]
        e.close()
        if length == str(have):
            return True
        part.unlink()
        return False
    total: int | None
    with response:
        if response.status == 206:
            start, total = _content_range(response.headers.get("Content-Range", ""))
            if start != have:
                raise http.client.HTTPException(f"requested the bytes from {have}, got those from {start}")
        else:  # the server doesn't support ranges: start over
            have, total = 0, _length(response.headers.get("Content-Length"))
        if total is not None and total - have > (free := shutil.disk_usage(part.parent).free):
            raise FetchError(f"{part.parent}: {total - have:,} bytes are needed, {free:,} are free")
        with part.open("ab" if have else "wb") as file:
            progress(have, total)
            while chunk := response.read(CHUNK_BYTES):
                file.write(chunk)
                have += len(chunk)
                progress(have, total)
    return total is None or have == total


def _content_range(header: str) -> tuple[int, int | None]:
    """Parses `bytes 5-9/10` as (5, 10)."""
    try:
        span, total = header.removeprefix("bytes ").split("/")
        return int(span.split("-")[0]), _length(total)
    except ValueError:
        raise http.client.HTTPException(f"the server sent the Content-Range {header!r}") from None


def _length(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None


def extract(archive: Path, targets: Mapping[str, tuple[Path, str]], *, progress: Progress) -> None:
    """Extracts files from a .tar.gz, reading it once and no further than needed.

    Only regular files with exactly the given names are extracted, and to the given paths, whatever else the archive
    holds; each gets its name once its bytes have been checked.

    Args:
        archive: the .tar.gz.
        targets: path and SHA-256 by name in the archive.
        progress: receives the bytes of the archive that have been read.

    Raises:
        FetchError: a file is missing or its bytes aren't the expected ones, or the archive is damaged.
    """
    missing, total = dict(targets), archive.stat().st_size
    try:
        with archive.open("rb") as raw, tarfile.open(fileobj=raw, mode="r|gz") as tar:
            for member in tar:
                progress(raw.tell(), total)
                name = member.name.removeprefix("./")
                if name in missing and member.isreg() and (content := tar.extractfile(member)):
                    path, digest = missing.pop(name)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    part = path.with_name(path.name + ".part")
                    write_checked(content, path, digest, part=part, report=lambda: progress(raw.tell(), total))
                if not missing:
                    break
    except WrongDigestError as e:
        raise FetchError(f"{archive}: {path.name}: {e}") from e
    except (tarfile.TarError, EOFError, zlib.error) as e:
        raise FetchError(f"{archive}: damaged: {e}") from e
    if missing:
        raise FetchError(f"{archive}: not in it: {', '.join(missing)}")
