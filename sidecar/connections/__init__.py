"""Connections to Redis: where its servers are, and the connections that are kept up to them."""
