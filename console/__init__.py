"""The operators' tools: fpsctl on the command line, and what it shares with other tools that read and change limits."""
