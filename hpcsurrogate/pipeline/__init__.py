"""The stages in order, what is already done, what is stale, and starting the ranks."""
