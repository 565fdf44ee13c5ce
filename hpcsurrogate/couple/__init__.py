"""A-posteriori runs: every contender in its coarse solver, from the same starts, against filtered DNS."""
