"""Stores: where samples come from. The files (stream), a copy on every node (node), a part on every rank (cluster)."""
