"""Judging times on a machine that others use too."""

import time

# What slows a machine down more than this is not told from a fault any more.
MOST = 20


def slowness():
    """How many times longer a computation takes now than on a CPU of its own."""
    began, used = time.monotonic(), time.thread_time()
    while time.thread_time() - used < 0.05:
        pass
    took = (time.monotonic() - began) / (time.thread_time() - used)
    return min(max(took, 1), MOST)


def within(took, limit):
    """Were these seconds at most LIMIT, or as much more as all takes longer now?
    Asked while what may slow down goes on."""
    return took < limit or took < limit * slowness()
