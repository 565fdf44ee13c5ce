"""The background thread: in order, never more than two ahead, its errors seen, gone when nobody wants more."""

import threading
import time

import pytest

from hpcsurrogate.data.prefetch import prefetched


def wait_until(condition, seconds=5.0):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.001)
    assert condition()


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "prefetch"]


class Counter:
    """Endless numbers; remembers how many were made, and on which thread."""

    def __init__(self, fail_at=None):
        self.made, self.names, self.fail_at = 0, set(), fail_at

    def __iter__(self):
        return self

    def __next__(self):
        if self.made == self.fail_at:
            raise OSError("unreadable")
        self.names.add(threading.current_thread().name)
        self.made += 1
        return self.made - 1


def test_items_come_in_order_from_a_thread_that_is_two_ahead():
    counter = Counter()
    items = prefetched(counter)
    assert [next(items) for _ in range(10)] == list(range(10))
    wait_until(lambda: counter.made == 12)
    time.sleep(0.02)  # long enough for a thread that did not stop at two to make thousands
    assert counter.made == 12 and counter.names == {"prefetch"}
    items.close()
    assert threads() == []


def test_a_consumer_that_is_slower_than_the_thread_never_waits():
    def slow():
        for number in range(6):
            time.sleep(0.02)
            yield number

    items = prefetched(slow())
    next(items)
    waited = []
    for _ in range(5):
        time.sleep(0.06)
        started = time.perf_counter()
        next(items)
        waited.append(time.perf_counter() - started)
    assert min(waited) < 0.01  # without a thread each would take 0.02


def test_a_finite_iterator_ends_and_its_thread_too():
    assert list(prefetched(iter(range(5)))) == [0, 1, 2, 3, 4]
    assert list(prefetched(iter(()))) == []
    assert threads() == []


def test_an_error_is_raised_in_the_consumer_after_the_items_before_it():
    items = prefetched(Counter(fail_at=3))
    assert [next(items) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match="unreadable"):
        next(items)
    assert threads() == []


def test_leaving_in_the_middle_ends_the_thread():
    for leave in ("break", "error"):
        try:
            for number in prefetched(Counter()):
                if number == 2 and leave == "break":
                    break
                if number == 2:
                    raise ValueError
        except ValueError:
            pass
        wait_until(lambda: threads() == [])


def test_waiting_costs_no_time_of_the_processor():
    items = prefetched(Counter())
    next(items)
    time.sleep(0.05)
    (thread,) = threads()
    clock = time.pthread_getcpuclockid(thread.ident)
    before = time.clock_gettime(clock)
    time.sleep(0.2)
    assert time.clock_gettime(clock) - before < 0.02  # a thread that polled would take all 0.2 s
    items.close()
