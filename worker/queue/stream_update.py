"""What is kept of each stream in Redis for others to read: its last result, its totals and its last preview. Pure."""

from dataclasses import dataclass, field

TTL_S = 60
"""How long it is kept after the stream's last frame."""


@dataclass(slots=True)
class StreamUpdate:
    """A change of what is kept of one stream."""

    stream_name: str
    heard_at: float
    """When Redis received the newest frame, Unix seconds by its clock."""
    silent: bool = False
    """Whether there is nothing new but silence. Ignored if another worker has heard from the stream since."""
    received: int = 0
    """Frames since the last update; likewise the following."""
    admitted: int = 0
    counted: int = 0
    skipped: int = 0
    superseded: int = 0
    """They are some of the skipped ones."""
    dead: int = 0
    skips: dict[str, int] = field(default_factory=dict)
    """The skipped ones by reason."""
    fields: dict[str, str | int | float] = field(default_factory=dict)
    """Fields of the hash that are set."""
    preview: bytes = b""
    """The annotated picture of the last result, a JPEG; empty: the one before stays."""
    totals: tuple[int, int] | None = None
    """Frames received and counted by all workers; known after the update."""

    unwritten: bool = False
    """Whether Redis couldn't be reached, while others were written."""

    def words(self) -> list[object]:
        """Returns the arguments of the script."""
        flat = [word for pair in self.fields.items() for word in pair]
        added = [self.received, self.counted, self.admitted, self.skipped, self.superseded, self.dead]
        skips = [word for reason, number in self.skips.items() for word in (f"skipped:{reason}", number)]
        return [repr(self.heard_at), int(self.silent), self.preview, *added, len(flat), *flat, len(skips), *skips]
