"""Training: two phases, losses, schedule, checkpoints, the record of the run."""
