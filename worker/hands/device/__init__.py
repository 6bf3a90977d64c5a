"""The hand models on a GPU: the same files, run by torch in batches over views, frames and streams."""
