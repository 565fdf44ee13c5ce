"""Many trainings held beside each other: the search over keys of an experiment, and the scaling over ranks."""
