"""The keys of the queue that the console reads; docs/results.md and docs/queue.md describe them. Pure."""

from dataclasses import dataclass

from console.web.feed.facts import encode_name


@dataclass(frozen=True)
class QueueKeys:
    """The keys below one --prefix. The braces keep them in one slot of a Redis Cluster."""

    prefix: str

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

    def stream(self, name: str) -> bytes:
        """Returns the key of what is kept of a stream."""
        return self._key("stream:") + encode_name(name)

    def preview(self, name: str) -> bytes:
        """Returns the key of a stream's last annotated picture."""
        return self._key("preview:") + encode_name(name)

    @property
    def all_streams(self) -> bytes:
        """A pattern of SCAN for what is kept of all streams."""
        return self._key("stream:*") if not set(self.prefix) & set("*?[]\\") else b"*"

    def stream_name(self, key: bytes) -> bytes | None:
        """Returns the stream of a key that SCAN found; None if the key is another one."""
        start = self._key("stream:")
        return key[len(start) :] if key.startswith(start) and len(key) > len(start) else None

    def _key(self, rest: str) -> bytes:
        return f"{{{self.prefix}}}:{rest}".encode()
