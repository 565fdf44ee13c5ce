"""Shards, catalogue, preparation, statistics, loader and check: everything between a source and a batch."""
