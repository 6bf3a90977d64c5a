"""Where results go besides Redis: each sink is a file of its own behind the protocol of :mod:`worker.sinks.sink`."""
