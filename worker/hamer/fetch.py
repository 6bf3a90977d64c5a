"""`hand-counter models fetch --hamer`: the official weights, after consent to their licence.

The archive is about 6 GB, so an interrupted download goes on where it stopped. Nothing is used whose SHA-256 isn't the
expected one, and only the two files that inference needs are taken out, to names of our choosing. The standard library
does the work; neither torch nor cv2 is needed.
"""

import errno
import hashlib
import http.client
import os
import shutil
import tarfile
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

LICENCE = """\
[bold]The weights of HaMeR aren't ours to give, and aren't free for every use.[/bold]

* They contain the hand model [bold]MANO[/bold] (https://mano.is.tue.mpg.de): for non-commercial scientific research
  only, no redistribution; its terms forbid commercial, military and [bold]surveillance[/bold] use. Check them before
  you point this at camera streams.
* The weights themselves come without a licence of their own and were trained on ten data sets with their own terms
  (FreiHAND, InterHand2.6M, MTC, RHD, COCO-WholeBody, Halpe, MPII-NZSL, HO3D, H2O3D, DexYCB): for research only, unless
  you have cleared them.
* HaMeR's code is under the MIT licence; none of it is used here.
"""

CHUNK = 1 << 20


class FetchError(Exception):
    """The weights couldn't be fetched; the text says why and what to do."""


@dataclass(frozen=True)
class Release:
    """A published archive.

    Attributes:
        url: where it is.
        sha256: of the archive.
        members: what to take out: name in the archive, name below the target folder, and SHA-256 of the contents.
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
    """How long to bear with a bad connection.

    Attributes:
        timeout: seconds without a byte before a connection counts as dead.
        retries: connections in a row that bring nothing before the fetch gives up.
        pause: waits the given seconds between two of them.
    """

    timeout: float = 60.0
    retries: int = 5
    pause: Callable[[float], None] = field(default=time.sleep)


def fetch_hamer(
    folder: Path,
    *,
    accept_licence: bool,
    console: Console,
    ask: Callable[[str], str] | None = None,
    release: Release = OFFICIAL,
    patience: Patience | None = None,
) -> Path:
    """Puts the official checkpoint and its config below a folder.

    Args:
        folder: where to; made if need be. The download is kept there until it is complete.
        accept_licence: the user has agreed already.
        console: where to talk.
        ask: puts a question and gives the answer; None where nobody can be asked.
        release: what to fetch.
        patience: with a bad connection.

    Returns:
        The checkpoint's path, for `--hamer-checkpoint`.

    Raises:
        FetchError: no consent, no connection, no space, or not the expected bytes.
    """
    targets = {name: (folder / target, digest) for name, target, digest in release.members}
    checkpoint = next(iter(targets.values()))[0]
    if all(path.is_file() and sha256_of(path) == digest for path, digest in targets.values()):
        console.print(f"Already there: {checkpoint}")
        return checkpoint
    console.print(LICENCE)
    if not accept_licence:
        if ask is None:
            raise FetchError("nobody to ask for consent: read the licences above and pass --accept-licence")
        if ask("Do you agree to these terms? [y/N] ").strip().lower() not in ("y", "yes"):
            raise FetchError("not fetched: the licences weren't accepted")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        archive = folder / release.url.rsplit("/", 1)[1]
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
            download(release.url, archive, release.sha256, progress=progress, patience=patience or Patience())
            extract(archive, targets, progress=progress)
        archive.unlink()
    except OSError as e:
        raise FetchError(f"{e.filename or folder}: {e.strerror or e}") from e
    console.print(f"Checkpoint: {checkpoint}")
    return checkpoint


def download(url: str, target: Path, sha256: str, *, progress: Progress, patience: Patience) -> None:
    """Downloads a file, going on from what an earlier attempt left; only the right bytes get the target's name.

    Raises:
        FetchError: the connection failed for good, the disk is too small, or the bytes are others.
    """
    if target.is_file() and sha256_of(target) == sha256:
        return
    part = target.with_name(target.name + ".part")
    task = progress.add_task(f"fetching {target.name}", total=None)

    def report(done: int, total: int | None) -> None:
        progress.update(task, completed=done, total=total)

    failures = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            complete = _continue(url, part, patience.timeout, report)
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
            raise FetchError(f"{url}: {problem}; run the command again to go on from {before:,} bytes")
        patience.pause(min(2.0**failures, 30.0))
    progress.update(task, description=f"checking {target.name}")
    if (found := sha256_of(part)) != sha256:
        part.unlink()
        raise FetchError(f"{url}: the SHA-256 is {found}, expected {sha256}; the download was deleted")
    part.replace(target)


def _continue(url: str, part: Path, timeout: float, report: Callable[[int, int | None], None]) -> bool:
    """Fetches what is missing of a file; tells whether it is complete now."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as e:
        if e.code != 416:
            raise
        # Nothing lies behind what we have: complete, or longer than the file on the server ever was.
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
                raise http.client.HTTPException(f"asked for bytes from {have}, got them from {start}")
        else:  # the server doesn't do ranges: from the beginning
            have, total = 0, _length(response.headers.get("Content-Length"))
        if total is not None and total - have > (free := shutil.disk_usage(part.parent).free):
            raise FetchError(f"{part.parent}: {total - have:,} bytes are needed, {free:,} are free")
        with part.open("ab" if have else "wb") as file:
            report(have, total)
            while chunk := response.read(CHUNK):
                file.write(chunk)
                have += len(chunk)
                report(have, total)
    return total is None or have == total


def _content_range(header: str) -> tuple[int, int | None]:
    """Reads `bytes 5-9/10` as (5, 10)."""
    try:
        span, total = header.removeprefix("bytes ").split("/")
        return int(span.split("-")[0]), _length(total)
    except ValueError:
        raise http.client.HTTPException(f"a Content-Range of {header!r}") from None


def _length(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None


def extract(archive: Path, targets: Mapping[str, tuple[Path, str]], *, progress: Progress) -> None:
    """Takes files out of a .tar.gz, reading it once and no further than needed.

    Only regular files with exactly the wanted names are touched, and they go to the paths given here, whatever the
    archive says; each gets its name when its bytes have proved right.

    Args:
        archive: the .tar.gz.
        targets: path and SHA-256 by name in the archive.
        progress: where to report.

    Raises:
        FetchError: a file is missing or its bytes are others, or the archive is damaged.
    """
    missing = dict(targets)
    task = progress.add_task("unpacking", total=archive.stat().st_size)
    try:
        with archive.open("rb") as raw, tarfile.open(fileobj=raw, mode="r|gz") as tar:
            for member in tar:
                progress.update(task, completed=raw.tell())
                name = member.name.removeprefix("./")
                if name in missing and member.isreg() and (content := tar.extractfile(member)):
                    path, digest = missing.pop(name)
                    _write_checked(content, path, digest, lambda: progress.update(task, completed=raw.tell()))
                if not missing:
                    break
    except (tarfile.TarError, EOFError, zlib.error) as e:
        raise FetchError(f"{archive}: damaged: {e}") from e
    if missing:
        raise FetchError(f"{archive}: not in it: {', '.join(missing)}")


def _write_checked(content: IO[bytes], path: Path, sha256: str, report: Callable[[], None]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    digest = hashlib.sha256()
    try:
        with part.open("wb") as file:
            while chunk := content.read(CHUNK):
                digest.update(chunk)
                file.write(chunk)
                report()
            file.flush()
            os.fsync(file.fileno())
        if digest.hexdigest() != sha256:
            raise FetchError(f"{path.name}: the SHA-256 is {digest.hexdigest()}, expected {sha256}")
        part.replace(path)
    finally:
        with suppress(FileNotFoundError):
            part.unlink()


def sha256_of(path: Path) -> str:
    """Gives a file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
