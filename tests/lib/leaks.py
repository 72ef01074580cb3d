"""What a server holds, counted to the unit: before a fault and after it the
same, or something leaks.

The worker's own memory is seen by the page that it shares with the keeper
(struct seat of src/front/worker.h), which is read out of the keeper's memory;
descriptors, threads and processes are the kernel's word."""

import os
import struct

from lib.server import stat_of, until

SEAT = struct.Struct("=IIQIIII32x")  # connections ... rings, spare


def seats(server):
    """[(connections, segments, slots, areas, rings)] of each worker."""
    with open(f"/proc/{server.keeper()}/maps", encoding="ascii") as f:
        line = next(l for l in f if "memfd:cardea-seats" in l)
    start = int(line.split("-")[0], 16)
    found = []
    with open(f"/proc/{server.keeper()}/mem", "rb", buffering=0) as f:
        f.seek(start)
        for _ in server.workers():
            live, _, _, segments, slots, areas, rings = SEAT.unpack(
                f.read(SEAT.size))
            found.append((live, segments, slots, areas, rings))
    return found


def held(server):
    """All that can leak, by name."""
    counts = {}
    for i, seat in enumerate(seats(server)):
        for name, value in zip(("connections", "segments", "slots", "areas",
                                "rings"), seat):
            counts[f"worker {i} {name}"] = value
    family = [p for p, _ in server.family()]
    counts["processes"] = len(family)
    counts["keeper descriptors"] = server.fds(server.keeper())
    for i, pid in enumerate(server.workers()):
        counts[f"worker {i} descriptors"] = server.fds(pid)
        counts[f"worker {i} threads"] = server.threads(pid)
    for pid in family:
        stat = stat_of(pid)
        if stat and pid not in (server.pid, server.keeper()) and pid not in server.workers():
            name = stat[0]
            counts[f"{name} descriptors"] = (
                counts.get(f"{name} descriptors", 0) + server.fds(pid))
            counts[f"{name} threads"] = (
                counts.get(f"{name} threads", 0) + server.threads(pid))
    return counts


def settled(server):
    """The same, when three looks in a row saw the same."""
    looks = []

    def same():
        try:
            looks.append(held(server))
        except (OSError, StopIteration):
            return None
        return len(looks) >= 3 and all(l == looks[-1] for l in looks[-3:])

    until(same, 60, "rest")
    return looks[-1]


def assert_nothing_left(server, before, grown=()):
    """Everything is as BEFORE. GROWN: parts of names that may have become
    more, once (threads that a burst has made stay for a while)."""
    now = {}

    def back():
        now.clear()
        try:
            now.update(held(server))
        except (OSError, StopIteration):
            return False
        return not differences(before, now, grown)

    try:
        until(back, 20, "it")
    except AssertionError:
        raise AssertionError("left: " + ", ".join(
            differences(before, now, grown))) from None
    assert os.path.exists(f"/proc/{server.pid}")


def differences(before, now, grown):
    found = []
    rings = sum(name.endswith(" rings") for name in now)  # one a worker
    for name in sorted({*before, *now}):
        was, value = before.get(name, 0), now.get(name, 0)
        may_grow = any(g in name for g in grown)
        # An idle thread of a program leaves by itself after ten seconds.
        may_shrink = "threads" in name
        # Until then one attends the ring of each worker.
        attend = ("threads" in name and not name.startswith("worker")
                  and value - was < rings)
        # The liar of the tests keeps what its callers left; it is not ours.
        if (was != value and "attack-liar" not in name
                and not (value > was and (may_grow or attend))
                and not (value < was and may_shrink)):
            found.append(f"{name} {was} -> {value}")
    return found
