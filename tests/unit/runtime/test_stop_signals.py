"""The supervisor takes a signal at whatever moment it comes."""

import random
import signal
import time

from tasker.service.process import StopSignals

SIGNALS = 3_000
TIMED_OUT_S = 20.0


def test_a_signal_is_taken_wherever_it_meets_the_wait() -> None:
    """An event of `threading` has moments at which its setter waits for its waiter, in one thread: for ever."""
    before = signal.getsignal(signal.SIGALRM)
    draw = random.Random(1)
    try:
        until_s = time.monotonic() + TIMED_OUT_S
        for _ in range(SIGNALS):
            stop = StopSignals(signal.SIGALRM)
            signal.setitimer(signal.ITIMER_REAL, draw.uniform(1e-6, 2e-4))
            while not stop.came_within(1e-6):
                assert time.monotonic() < until_s
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
