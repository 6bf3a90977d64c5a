"""What the worker counts for Prometheus. Since this process started; the exact accounting lies in Redis."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from worker.queue.frame import DeadReason, SkipReason

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """Each metric is a field; all in one registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.received = Counter("hand_counter_received", "Entries read from the queue.", registry=registry)
        self.redelivered = Counter(
            "hand_counter_redelivered", "Entries taken up again after a crash or a stop.", registry=registry
        )
        self.counted = Counter("hand_counter_counted", "Frames whose hands were counted.", registry=registry)
        self.skipped = Counter("hand_counter_skipped", "Frames skipped.", ["reason"], registry=registry)
        self.dead = Counter("hand_counter_dead", "Entries dead-lettered.", ["reason"], registry=registry)
        for skip_reason in SkipReason:
            self.skipped.labels(skip_reason.value)
        for dead_reason in DeadReason:
            self.dead.labels(dead_reason.value)
        self.hands = Counter("hand_counter_hands", "Hands found in the counted frames.", registry=registry)
        self.refinements = Counter(
            "hand_counter_refinements",
            "What became of the hands that HaMeR looked at; and out_of_memory, batches it had to halve.",
            ["verdict"],
            registry=registry,
        )
        self.retries = Counter("hand_counter_retries", "Attempts at a frame that raised an error.", registry=registry)
        self.decisions = Counter(
            "hand_counter_decisions", "Frames decided, by the sidecar or locally.", ["by"], registry=registry
        )
        for by in ("sidecar", "lease", "local"):
            self.decisions.labels(by)
        self.payload_bytes = Counter("hand_counter_payload_bytes", "Encoded pictures fetched.", registry=registry)
        self.seconds = Histogram(
            "hand_counter_frame_seconds", "Work on one counted frame.", registry=registry, buckets=_SECONDS
        )
        self.queue_age = Histogram(
            "hand_counter_queue_age_seconds",
            "Age of an admitted entry when the work on it begins, by Redis' clock.",
            registry=registry,
            buckets=_SECONDS,
        )
        self.dropped_unread = Gauge(
            "hand_counter_dropped_unread",
            "Entries that the queue's cap took before any worker read them, in all: the same at every worker.",
            registry=registry,
        )
        self.held = Gauge("hand_counter_held", "Entries delivered and not ended yet.", registry=registry)
        self.sidecar_up = Gauge("hand_counter_sidecar_up", "0 while the worker paces locally.", registry=registry)
        self.redis_up = Gauge("hand_counter_redis_up", "0 while Redis is away.", registry=registry)

    def total(self, counter: Counter) -> int:
        """The value of a counter, summed over its labels."""
        return int(sum(s.value for metric in counter.collect() for s in metric.samples if s.name.endswith("_total")))
