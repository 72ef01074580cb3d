"""Each system call of each process fails once: in the suite a sample, with
CARDEA_INJECT=all (make soak) every one that a run reaches.

An end is defined when the start fails with a sentence, or each client gets a
reply or a closed connection and then everything works again; with no process,
descriptor or thread left over, nobody who computes for nothing, and no crash.
lib/inject.py holds the story and the judgement."""

import collections
import os
import shutil
import subprocess

import pytest

from lib.inject import CALL, ERRORS, record_all, sample, strace, try_all
from lib.server import until

SAMPLE = 560

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root traces a worker"),
    pytest.mark.skipif(not shutil.which("strace"), reason="no strace"),
]


def report(build, capsys, title, lines):
    """On the terminal, and for those who come later in BUILD/inject.txt."""
    text = "\n".join([title, *("  " + l for l in lines), ""])
    with open(os.path.join(build, "inject.txt"), "a", encoding="utf-8") as f:
        f.write(text)
    with capsys.disabled():
        print("\n" + text, end="")


@pytest.mark.limit(3000)
def test_a_call_that_fails_once_has_a_defined_end(plain_build, build, capsys):
    faults, base = record_all(plain_build)
    everything = os.environ.get("CARDEA_INJECT") == "all"
    tried = faults if everything else sample(faults, SAMPLE)
    results, again = try_all(plain_build, tried, base)
    kinds = collections.Counter(
        kind if hits or kind == "WRONG" else "not reached"
        for _, kind, hits, _ in results)
    delivered = sum(hits > 0 for _, _, hits, _ in results)
    sites = collections.Counter(role for role, _, _ in
                                {(f.role, f.call, f.nth) for f in faults})
    report(build, capsys, "faults injected into a server", [
        "call sites reached: " + ", ".join(
            f"{role} {n}" for role, n in sites.items())
        + f"; together {sum(sites.values())}",
        f"faults: {len(faults)} known, {len(tried)} tried, "
        f"{delivered} delivered, {again} tried twice",
        "ends: " + ", ".join(f"{k} {n}" for k, n in kinds.most_common())])
    wrong = [why for _, kind, _, why in results if kind == "WRONG"]
    assert not wrong, "\n\n".join(wrong[:5])
    assert delivered >= min(500, len(tried) * 0.85)
    assert all(kinds[k] for k in ("unharmed", "restarted", "start-failed",
                                  "503", "closed")), kinds


@pytest.mark.limit(600)
def test_a_caller_whose_call_fails_gets_an_errno(plain_build, build, folder,
                                                 capsys):
    door = os.path.join(folder, "plain.door")
    trace = os.path.join(folder, "trace")
    caller = os.path.join(plain_build, "tests", "inject", "caller")

    def call(fault):
        done = subprocess.run(
            [*strace(trace, fault), caller, door], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=15,
            check=False)
        with open(trace, encoding="latin-1") as f:
            return done.returncode, done.stderr.decode(), f.read()

    with subprocess.Popen(
            [os.path.join(plain_build, "tests", "programs", "plain"), door],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout.readline() == b"attached\n"
            before = len(os.listdir(f"/proc/{server.pid}/fd"))
            status, errors, text = call(None)
            assert (status, errors) == (0, "")
            ends = try_caller(call, text)
            until(lambda: len(os.listdir(f"/proc/{server.pid}/fd")) == before,
                  what=f"return to {before} descriptors")
            assert call(None)[0] == 0
        finally:
            server.kill()
    report(build, capsys, "faults injected into a caller of libdoor", [
        f"delivered: {sum(ends.values())}",
        "ends: " + ", ".join(f"{k} {n}" for k, n in ends.most_common())])
    assert ends["unharmed"] and ends["an errno"]


def try_caller(call, text):
    """Each fault of what TEXT shows behind the loader: {end: how often}."""
    lines = [l for l in text.splitlines() if CALL.match(l)]
    start = max(i for i, l in enumerate(lines) if l.startswith("mprotect"))
    count, ends = collections.Counter(), collections.Counter()
    for i, line in enumerate(lines):
        name = CALL.match(line).group(2)
        count[name] += 1
        for error in ERRORS.get(name, ()) if i > start else ():
            fault = collections.namedtuple("F", "call error nth")(
                name, error, count[name])
            status, errors, seen = call(fault)
            assert status in (0, 1), (fault, status, errors)
            assert status == 0 or errors.startswith("caller: "), (fault,
                                                                  errors)
            if "(INJECTED)" in seen:
                ends["an errno" if status else "unharmed"] += 1
    return ends
