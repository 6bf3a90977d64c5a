"""Files of a ConfigMap or a Secret on the node's disk, replaced all at once, as a kubelet does it."""

import itertools
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

_DATA = "..data"


class MountedFiles:
    """A folder whose files are links into a folder that one link names, so that a program sees all files change together."""

    def __init__(self, folder: Path, mode: int, group: int | None) -> None:
        """Takes the folder, and the files' mode and group; with a group its members can read them."""
        self.folder = folder
        self._mode = mode | (0o440 if group is not None else 0)
        self._group = group
        self._versions = itertools.count()
        self._content: Mapping[str, str] | None = None

    def write(self, content: Mapping[str, str]) -> None:
        """Replaces the files by these texts, if they are others."""
        if content == self._content:
            return
        self._content = dict(content)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._allow(self.folder, 0o755)
        version = self.folder / f"..version{next(self._versions)}"
        version.mkdir()
        self._allow(version, 0o755)
        for path, text in content.items():
            (version / path).write_text(text)
            self._allow(version / path, self._mode)
        before = (self.folder / _DATA).resolve() if (self.folder / _DATA).is_symlink() else None
        (self.folder / "..data_tmp").symlink_to(version.name)
        (self.folder / "..data_tmp").rename(self.folder / _DATA)
        for path in content:
            if not (self.folder / path).is_symlink():
                (self.folder / path).symlink_to(f"{_DATA}/{path}")
        for link in self.folder.iterdir():
            if not link.name.startswith("..") and link.name not in content:
                link.unlink()
        if before is not None:
            shutil.rmtree(before)

    def _allow(self, path: Path, mode: int) -> None:
        if self._group is not None:
            os.chown(path, -1, self._group)
        path.chmod(mode)
