-- One row for each counted frame. entry_id makes a repeated batch harmless; it is unique within one queue.
CREATE TABLE hand_counter_results (
    queue VARCHAR(255) NOT NULL,
    entry_id VARCHAR(64) NOT NULL,
    stream_name VARCHAR(256) NOT NULL,
    ts DOUBLE PRECISION NOT NULL,
    hand_count INTEGER NOT NULL,
    width INTEGER NOT NULL,
    height INTEGER NOT NULL,
    age DOUBLE PRECISION NOT NULL,
    counted_at DOUBLE PRECISION NOT NULL,
    result TEXT NOT NULL,
    PRIMARY KEY (queue, entry_id)
);
CREATE INDEX hand_counter_results_by_stream ON hand_counter_results (stream_name, ts);
CREATE INDEX hand_counter_results_by_time ON hand_counter_results (counted_at);
