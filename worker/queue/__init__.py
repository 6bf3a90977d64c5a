"""The queue: its keys, its entries, and every command that the worker gives Redis about them."""
