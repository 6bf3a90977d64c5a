"""The keys of the queue that the console reads; docs/results.md and docs/queue.md describe them. Pure."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from console.web.feed.facts import encode_name


@dataclass(frozen=True)
class PartitionKeys:
    """The keys of one partition; their tag keeps them in one slot of a Redis Cluster."""

    tag: str

    @property
    def frames(self) -> bytes:
        """The queue."""
        return self._key("frames")

    @property
    def counts(self) -> bytes:
        """The results."""
        return self._key("counts")

    @property
    def dead(self) -> bytes:
        """The dead letters."""
        return self._key("dead")

    @property
    def accounting(self) -> bytes:
        """The counters of all deliveries."""
        return self._key("accounting")

    @property
    def unread(self) -> bytes:
        """What the cap of the queue dropped."""
        return self._key("unread")

    def _key(self, rest: str) -> bytes:
        return f"{{{self.tag}}}:{rest}".encode()


@dataclass(frozen=True)
class QueueKeys:
    """The keys below one --prefix, in so many partitions."""

    prefix: str
    number: int = 1
    """Of the partitions."""

    @property
    def number_key(self) -> bytes:
        """The key of the number of partitions; without it there is one."""
        return f"{{{self.prefix}}}:partitions".encode()

    @property
    def partitions(self) -> Iterator[PartitionKeys]:
        """Returns the keys of each partition."""
        return map(PartitionKeys, [self.prefix] if self.number == 1 else map(self._tag, range(self.number)))

    def stream(self, name: str) -> bytes:
        """Returns the key of what is kept of a stream."""
        return self._key(name, b"stream:")

    def preview(self, name: str) -> bytes:
        """Returns the key of a stream's last annotated picture."""
        return self._key(name, b"preview:")

    def camera(self, name: str) -> bytes:
        """Returns the key of what a publisher says about its camera, which lies in no partition."""
        return f"{{{self.prefix}}}:camera:".encode() + encode_name(name)

    @property
    def all_streams(self) -> bytes:
        """A pattern of SCAN for what is kept of all streams and cameras, and few other keys."""
        prefix = "".join("?" if character in "*?[]\\" else character for character in self.prefix)
        return f"{{{prefix}*:[sc][ta][rm]e*:*".encode()

    def stream_name(self, key: bytes) -> bytes | None:
        """Returns the stream of a key that SCAN found; None if the key is another one."""
        start, brace, rest = key.partition(b"}:")
        if not brace or not start.startswith(f"{{{self.prefix}".encode()):
            return None
        what, colon, name = rest.partition(b":")
        return name if colon and what in (b"stream", b"camera") and name else None

    def _key(self, name: str, what: bytes) -> bytes:
        raw = encode_name(name)
        tag = self.prefix if self.number == 1 else self._tag(zlib.crc32(raw) % self.number)
        return f"{{{tag}}}:".encode() + what + raw

    def _tag(self, number: int) -> str:
        return f"{self.prefix}:{number}"
