"""An iterator whose items a thread of its own makes ahead of time."""

import queue
import threading
from collections.abc import Generator, Iterator
from typing import TypeVar

Item = TypeVar("Item")

DEPTH = 2  # items made ahead: one to take, one under way


def prefetched(items: Iterator[Item], depth: int = DEPTH) -> Generator[Item, None, None]:
    """Yield the items of an iterator, in order; a background thread makes up to `depth` ahead of the consumer.

    The thread starts with the first item that is asked for. It ends, and has ended when `close()` of this generator
    returns, whether the iterator is at its end, the consumer leaves, or an item fails.

    Raises
    ------
    whatever `items` raises, here in the consumer, after the items before

    Notes
    -----
    Both sides sleep while they wait (tests/unit/data/test_prefetch.py).
    """
    # Two queues written in C: semaphores and conditions are Python code, which every batch would run.
    permits: queue.SimpleQueue[bool] = queue.SimpleQueue()
    made: queue.SimpleQueue[tuple[Item | None, BaseException | None]] = queue.SimpleQueue()
    left = threading.Event()

    def work() -> None:
        while permits.get() and not left.is_set():
            try:
                made.put((next(items), None))
            except BaseException as error:  # raised again where the batch is waited for
                made.put((None, error))
                return

    for _ in range(depth):
        permits.put(True)
    thread = threading.Thread(target=work, name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            item, error = made.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            permits.put(True)
            yield item
            del item  # the consumer alone decides how long a batch takes up memory
    finally:
        left.set()
        permits.put(False)
        thread.join()
