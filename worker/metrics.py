"""What the worker counts for Prometheus, since this process started; the exact accounting is in Redis."""

import math

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from worker.queue.frame import DeadReason, SkipReason

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """Each metric is a field; all are in one registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.received = Counter("hand_counter_received", "Entries read from the queue.", registry=registry)
        self.redelivered = Counter(
            "hand_counter_redelivered", "Entries taken up again after a crash or a stop.", registry=registry
        )
        self.counted = Counter("hand_counter_counted", "Frames whose hands were counted.", registry=registry)
        self.skipped = Counter("hand_counter_skipped", "Frames skipped, by reason.", ["reason"], registry=registry)
        self.dead = Counter("hand_counter_dead", "Entries dead-lettered, by reason.", ["reason"], registry=registry)
        for skip_reason in SkipReason:
            self.skipped.labels(skip_reason.value)
        for dead_reason in DeadReason:
            self.dead.labels(dead_reason.value)
        self.hands = Counter("hand_counter_hands", "Hands found in counted frames.", registry=registry)
        self.backend = Gauge(
            "hand_counter_backend", "1 for what finds the hands, with its effort.", ["backend"], registry=registry
        )
        self.refinements = Counter(
            "hand_counter_refinements",
            "Detected hands by HaMeR's verdict; out_of_memory: batches that were halved; "
            "overflow: crops computed again in bfloat16.",
            ["verdict"],
            registry=registry,
        )
        self.retries = Counter(
            "hand_counter_retries", "Attempts to count a frame that raised an error.", registry=registry
        )
        self.decisions = Counter(
            "hand_counter_decisions",
            "Frames decided: by the sidecar, by a lease, or locally while the sidecar was unreachable.",
            ["by"],
            registry=registry,
        )
        for by in ("sidecar", "lease", "local"):
            self.decisions.labels(by)
        self.payload_bytes = Counter(
            "hand_counter_payload_bytes", "Bytes of encoded pictures fetched.", registry=registry
        )
        self.seconds = Histogram(
            "hand_counter_frame_seconds",
            "Time to decode a frame, find its hands and encode the result.",
            registry=registry,
            buckets=_SECONDS,
        )
        self.queue_age = Histogram(
            "hand_counter_queue_age_seconds",
            "Age of an admitted live frame when counting begins, by Redis' clock.",
            registry=registry,
            buckets=_SECONDS,
        )
        self.dropped_unread = Gauge(
            "hand_counter_dropped_unread",
            "Entries that the queue's cap dropped before any worker read them, in total; the same in every worker of a share.",
            registry=registry,
        )
        self.held = Gauge(
            "hand_counter_held", "Entries delivered to this worker and not settled yet.", registry=registry
        )
        self.waiting = Gauge("hand_counter_waiting", "Admitted frames that wait for their turn.", registry=registry)
        self.in_progress = Gauge(
            "hand_counter_in_progress", "Frames between their turn and their result.", registry=registry
        )
        self.waiting_for_limit = Gauge(
            "hand_counter_waiting_for_limit",
            "Deliveries that wait for the sidecar, because the limit of their stream is unknown.",
            registry=registry,
        )
        self.sidecar_up = Gauge(
            "hand_counter_sidecar_up",
            "0 while the sidecar is unreachable and the worker paces locally.",
            registry=registry,
        )
        self.redis_up = Gauge(
            "hand_counter_redis_up", "0 while Redis is unreachable or rejects commands.", registry=registry
        )
        self.partitions = Gauge("hand_counter_partitions", "Partitions that the queue has.", registry=registry)
        self.partitions_read = Gauge(
            "hand_counter_partitions_read", "Partitions that this worker reads.", registry=registry
        )
        self.partitions_failing = Gauge(
            "hand_counter_partitions_failing",
            "Of these, how many can't be used, because their server is unreachable or rejects commands.",
            registry=registry,
        )
        # Neither is known while the models load.
        for gauge in (self.sidecar_up, self.redis_up):
            gauge.set(math.nan)

    def total(self, counter: Counter) -> int:
        """Returns the value of a counter, summed over its labels."""
        return int(sum(s.value for metric in counter.collect() for s in metric.samples if s.name.endswith("_total")))
