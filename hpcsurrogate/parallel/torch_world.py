"""The ranks that torchrun started, talking through torch.distributed: what World needs, named as in mpi4py."""

import atexit
import os
import secrets
import selectors
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, NoReturn

import numpy as np
import torch
import torch.distributed as dist

from hpcsurrogate.core.errors import RankLostError

CONNECT_LIMIT = 60.0  # for a rank to reach rank 0 [s]
# For the others of a rank that is at work. MPI waits for ever; torch's own limits, 30 minutes between CPUs and 10
# between GPUs, would end ranks that wait for one that simulates, or that were suspended. Hangs are the guard's.
WAIT_LIMIT = timedelta(days=365)


class TorchCommunicator:
    """Collective calls over gloo among the ranks that RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT describe.

    Parameters
    ----------
    rank, size : int [-]

    Raises
    ------
    RankLostError    if not all ranks meet at MASTER_ADDR:MASTER_PORT; by every method, if a rank was lost

    Notes
    -----
    The methods give what those of MPI give, and `Abort` ends ranks that compute (tests/parallel/test_torch_world.py).
    """

    def __init__(self, rank: int, size: int):
        self.rank, self.size = rank, size
        address, port = os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"]
        try:
            store, *_ = next(dist.rendezvous("env://", timeout=timedelta(seconds=CONNECT_LIMIT)))
            dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=WAIT_LIMIT)
            self._abort_lines = _AbortLines(self, address)
        except (RuntimeError, ValueError, OSError) as error:
            raise RankLostError(
                f"rank {rank} of {size}: the ranks do not meet at MASTER_ADDR={address}, MASTER_PORT={port} "
                f"({' '.join(str(error).split())}); start all of them once, each with a RANK of its own"
            ) from error
        # Threads of C++ and Python that still run when the interpreter goes end it with SIGABRT.
        atexit.register(self._close)

    def _close(self) -> None:
        self._abort_lines.close()
        dist.destroy_process_group()

    def barrier(self) -> None:
        """Wait until all ranks are here."""
        with self._losses_named():
            dist.barrier()

    def bcast(self, obj: Any, root: int) -> Any:
        """Return root's object on every rank."""
        holder = [obj]
        with self._losses_named():
            dist.broadcast_object_list(holder, src=root)
        return holder[0]

    def allgather(self, obj: Any) -> list:
        """Return the objects of all ranks, in rank order, on every rank."""
        objects = [None] * self.size
        with self._losses_named():
            dist.all_gather_object(objects, obj)
        return objects

    def gather(self, obj: Any, root: int) -> list | None:
        """Return the objects of all ranks, in rank order, on root; None on the others."""
        objects = [None] * self.size if self.rank == root else None
        with self._losses_named():
            dist.gather_object(obj, objects, dst=root)
        return objects

    def Allreduce(self, array: np.ndarray, total: np.ndarray) -> None:  # noqa: N802
        """Sum an array over the ranks into `total`, which is contiguous."""
        total[...] = array
        with self._losses_named():
            dist.all_reduce(torch.from_numpy(total))

    def Abort(self, exit_code: int) -> NoReturn:  # noqa: N802
        """End all ranks with this exit code, wherever they are."""
        self._abort_lines.end_all(exit_code)

    @contextmanager
    def _losses_named(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise RankLostError(f"torch.distributed lost another rank ({' '.join(str(error).split())})") from error


class _AbortLines:
    """A connection of every rank with rank 0: the exit code that a rank sends ends all.

    A thread listens, so that ranks end which compute or wait for something else. A connection that closes without a
    code means nothing: its rank has ended, and whoever waits for it learns that by itself.
    """

    def __init__(self, comm: TorchCommunicator, address: str):
        if comm.rank == 0:
            with socket.create_server(("", 0)) as server:
                port, token = comm.bcast((server.getsockname()[1], secrets.token_bytes(16)), root=0)
                server.settimeout(CONNECT_LIMIT)
                self._lines = []
                while len(self._lines) < comm.size - 1:
                    line, _ = server.accept()
                    if _received(line, len(token)) == token:  # not a stranger
                        self._lines.append(line)
        else:
            port, token = comm.bcast(None, root=0)
            self._lines = [socket.create_connection((address, port), CONNECT_LIMIT)]
            self._lines[0].sendall(token)
        self._listener = threading.Thread(target=self._listen, name="abort lines", daemon=True)
        self._listener.start()

    def close(self) -> None:
        """Hang up; the thread ends."""
        for line in self._lines:
            with suppress(OSError):  # the other end has hung up
                line.shutdown(socket.SHUT_RDWR)
        self._listener.join()

    def end_all(self, exit_code: int) -> NoReturn:
        """Tell the others, through rank 0, and end this process without waiting for anything."""
        for line in self._lines:
            with suppress(OSError):  # that rank has ended
                line.sendall(bytes([exit_code]))
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(exit_code)

    def _listen(self) -> None:
        with selectors.DefaultSelector() as selector:
            for line in self._lines:
                selector.register(line, selectors.EVENT_READ)
            while selector.get_map():
                for key, _ in selector.select():
                    code = _received(key.fileobj, 1)
                    if code:
                        self.end_all(code[0])
                    selector.unregister(key.fileobj)


def _received(line: socket.socket, num_bytes: int) -> bytes:
    """What comes next on a connection; less than was asked for if it ends there or stays silent."""
    line.settimeout(CONNECT_LIMIT)
    try:
        return line.recv(num_bytes, socket.MSG_WAITALL)
    except OSError:
        return b""
