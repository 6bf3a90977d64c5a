"""The queue: its keys, its entries, and every command about them that the worker sends to Redis."""
