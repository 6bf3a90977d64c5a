"""Connections to Redis: where its servers are, and what is kept up to them."""
