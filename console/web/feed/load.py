"""What the console itself costs Redis and the sidecars, and its other metrics."""

from prometheus_client import CollectorRegistry, Counter, Gauge


class Load:
    """Counters that the parts of the feed increase."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.redis_commands = Counter(
            "console_redis_commands", "Commands that the console has sent to Redis.", ["what"], registry=registry
        )
        self.redis_bytes = Counter(
            "console_redis_picture_bytes", "Bytes of pictures read from Redis.", registry=registry
        )
        self.sidecar_calls = Counter(
            "console_sidecar_calls", "Calls that the console has made to sidecars.", ["method"], registry=registry
        )
        self.errors = Counter(
            "console_errors", "Readings of Redis and of sidecars that failed.", ["what"], registry=registry
        )
        self.streams = Gauge("console_streams", "Streams that the page shows.", registry=registry)
        self.viewers = Gauge("console_viewers", "Pages that are open.", registry=registry)
        self.resnapshots = Gauge(
            "console_resnapshots", "How often a slow page got everything again in place of changes.", registry=registry
        )
        self.sent_bytes = Counter(
            "console_events_encoded_bytes", "Bytes of changes, each counted once for all pages.", registry=registry
        )
        self.changes = Counter(
            "console_changes", "Changes of limits that were asked for here.", ["outcome"], registry=registry
        )
        for what in ("redis", "sidecar"):  # a rate needs a value before the first failure
            self.errors.labels(what)
        for outcome in ("made", "tried", "warned", "refused"):
            self.changes.labels(outcome)

    def totals(self) -> dict[str, float]:
        """Returns the number of commands and calls so far, for the page."""
        redis = sum(
            sample.value
            for metric in self.redis_commands.collect()
            for sample in metric.samples
            if sample.name.endswith("_total")
        )
        calls = sum(
            sample.value
            for metric in self.sidecar_calls.collect()
            for sample in metric.samples
            if sample.name.endswith("_total")
        )
        return {"redis": redis, "sidecars": calls}
