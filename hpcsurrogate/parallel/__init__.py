"""Ranks, launching them, and averaging over them: the only room that imports mpi4py or Horovod."""
