"""Metrics and the a-priori score."""
