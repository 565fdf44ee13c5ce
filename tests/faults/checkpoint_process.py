"""Saves checkpoints in processes that may be killed: test_save_faults.py starts it and says on stdin what to do.

For every line, `directory step`, a child is forked. It saves step 1, stops itself so that strace can be attached, and
when it is continued saves `step` and keeps only that. Torch is imported once: it takes longer than all the rest. What
the child met stands in `directory`.json, written by pwrite(2), which is left alone by the tests.
"""

import ctypes
import json
import os
import signal
import sys
from pathlib import Path

import torch

from hpcsurrogate.cli.exit import explain
from hpcsurrogate.train.checkpoint import Checkpoint, CheckpointStore

DIGEST = "mine"
PR_SET_PTRACER, ANYONE = 0x59616D61, ctypes.c_ulong(-1)  # may attach, where else only a parent may
PARTS = ("weights", "best", "optimizer", "average")


def checkpoint(step: int, value: float) -> Checkpoint:
    """Larger than a buffer, so that its writing is more than one thing."""
    tensors = [{f"{part}.tensor": torch.full((64, 64), value)} for part in PARTS]
    return Checkpoint(step, *tensors, {"value": value})


def save_twice(directory: Path, step: int) -> None:
    report = os.open(f"{directory}.json", os.O_CREAT | os.O_WRONLY)
    store = CheckpointStore(directory, 1, DIGEST)
    store.save(checkpoint(1, 1.0))
    store.close()
    store = CheckpointStore(
        directory, 1, DIGEST
    )  # its thread, which is to be counted from the start, does not live yet
    changing = checkpoint(step, 2.0)
    ctypes.CDLL(None).prctl(PR_SET_PTRACER, ANYONE)
    os.kill(os.getpid(), signal.SIGSTOP)
    try:
        store.save(changing)
        for part in PARTS:
            getattr(changing, part)[f"{part}.tensor"].fill_(3.0)
        changing.state["value"] = 3.0
        store.wait()
        line, exit_code = None, 0
    except OSError as error:
        line, exit_code = explain(error)
    os.pwrite(report, json.dumps({"line": line, "exit_code": exit_code}).encode(), 0)


def main() -> None:
    for request in sys.stdin:
        directory, step = request.split()
        child = os.fork()
        if child == 0:
            save_twice(Path(directory), int(step))
            os._exit(0)
        os.waitpid(child, os.WUNTRACED)  # until it has stopped
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
