#!/usr/bin/env python3
"""Which lines of the parsers the unit tests and corpora reach.

    scripts/coverage.py [--tap] [--all]

Builds with gcc's counters in build-coverage, runs the tests that touch the
parsers, and prints a line for each file: lines, reached, percent. A line that
is not reached must have a reason, in a comment on it or above it:

    /* not reached: memory is gone */

One reason serves for a run of lines with no reached line between them. A line
without a reason fails; a reason whose lines are all reached is told, and should
go. --tap prints one case a file for test.py, --all the reasons too.
"""

import fnmatch
import glob
import json
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = "build-coverage"

# What reads bytes that others wrote.
PARSERS = (
    "src/http/*.c", "src/conf/*.c", "src/conf/*.y", "src/conf/*.l",
    "shims/cgi.c", "shims/fcgi.c", "shims/hop.c", "src/ctl/elf-kind.c",
    "src/cohort/lines.c", "src/cohort/tag.c", "src/cohort/ended.c",
    "src/cohort/asked.c",
    "src/door/sys.c", "src/door/server.c", "src/door/channel_server.c",
    "src/door/ring_server.c", "src/door/ring.c", "src/door/client.c",
    "src/app/cardea.c",
)
# Tests; tables without a line of code; and what asks the file system for
# cardea.conf, which tests answer themselves.
NOT_PARSERS = ("*/test-*", "*/fuzz-*", "src/http/chars.c",
               "src/conf/outside.c")
# The tests of meson that touch them; door-pool is about threads and time, and
# reaches nothing here that the others do not.
TESTS = ("http-*", "conf-*", "corpus-*", "door-*", "app-*", "shims-cgi",
         "shims-fcgi", "shims-hop", "ctl-elf",
         "cohort-lines", "cohort-tag", "cohort-ended",
         "cohort-asked")
NOT_TESTS = ("door-pool",)

REASON = re.compile(r"/\*\s*not reached:\s*(.*?)\s*(\*/|$)")


def run(command, **more):
    return subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, check=False, **more)


def must(command):
    done = run(command)
    if done.returncode != 0:
        sys.stdout.write(done.stdout)
        sys.exit(f"coverage: {' '.join(command[:4])} ... ended with "
                 f"{done.returncode}")
    return done.stdout


def configure():
    """The names of the tests; no line is counted yet."""
    must(["scripts/configure.sh", BUILD, "-Db_coverage=true",
          "--buildtype=debug", "-Dtests=enabled"])
    for path in glob.glob(f"{ROOT}/{BUILD}/**/*.gcda", recursive=True):
        os.unlink(path)
    listed = must(["meson", "test", "-C", BUILD, "--list"])
    names = [line.split(" / ")[-1].strip() for line in listed.splitlines()
             if " / " in line]
    names = [n for n in names if n not in NOT_TESTS and
             any(fnmatch.fnmatch(n, t) for t in TESTS)]
    if not names:
        sys.exit("coverage: no test has one of the names in TESTS")
    return names


def counts():
    """{source file: {line number: how often}} of all objects."""
    result = {}
    objects = glob.glob(f"{ROOT}/{BUILD}/**/*.gcda", recursive=True)
    for start in range(0, len(objects), 50):
        done = subprocess.run(
            ["gcov", "--json-format", "--stdout"] + objects[start:start + 50],
            cwd=os.path.join(ROOT, BUILD), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            check=True)
        for line in done.stdout.splitlines():
            if line.startswith("{"):
                add(result, json.loads(line))
    return result


def add(result, data):
    folder = data["current_working_directory"]
    for entry in data["files"]:
        path = os.path.relpath(os.path.join(folder, entry["file"]), ROOT)
        lines = result.setdefault(path, {})
        for line in entry["lines"]:
            number = line["line_number"]
            lines[number] = lines.get(number, 0) + line["count"]


def is_ours(path, text, number):
    """flex counts lines of its own with the numbers of ours, and on behind the
    end: what holds no statement there is not ours. (One of its own may so make
    one of ours look reached.)"""
    return number <= len(text) and (not path.endswith(".l") or
                                    (";" in text[number - 1] and
                                     "(void)" not in text[number - 1]))


def parsers():
    names = set()
    for pattern in PARSERS:
        found = [os.path.relpath(p, ROOT)
                 for p in glob.glob(os.path.join(ROOT, pattern))]
        if not found:
            sys.exit(f"coverage: no file is {pattern}")
        names.update(n for n in found
                     if not any(fnmatch.fnmatch(n, t) for t in NOT_PARSERS))
    return sorted(names)


def has_reason(text, number, before):
    """The reason on line NUMBER, or in the comment above it: back to BEFORE,
    the line of code that precedes it."""
    for n in range(number, before, -1):
        found = REASON.search(text[n - 1])
        if found:
            return n, found.group(1)
    return None


def judge(text, lines):
    """(lines without a reason, [(line, reason)], reasons that are stale)."""
    bare, reasons, used = [], [], set()
    covering = None  # the reason of the run that we are in
    before = 0
    for number in sorted(lines):
        if lines[number] > 0:
            covering = None
            # A line that was reached may hold the start of one that was not.
            before = number - 1 if REASON.search(text[number - 1]) else number
            continue
        found = has_reason(text, number, before)
        if found:
            covering = found
            used.add(found[0])
            reasons.append((number, found[1]))
        elif not covering:
            bare.append((number, text[number - 1].strip()))
        before = number
    stale = [n for n, line in enumerate(text, 1)
             if REASON.search(line) and n not in used]
    return bare, reasons, stale


def read_lines(path, found):
    """The file's text, and what was counted of it."""
    with open(os.path.join(ROOT, path), encoding="utf-8") as f:
        text = f.read().splitlines()
    return text, {number: count
                  for number, count in found.get(path, {}).items()
                  if is_ours(path, text, number)}


def run_tests(names, files):
    """Counts are added up over at most three turns: a few lines wait for a
    moment between two threads, which not every turn brings."""
    for _ in range(3):
        must(["meson", "test", "-C", BUILD, "--print-errorlogs"] + names)
        found = counts()
        if not any(judge(*read_lines(path, found))[0] for path in files):
            break
    return found


def main(arguments):
    tap, show = "--tap" in arguments, "--all" in arguments
    names = configure()
    files = parsers()
    found = run_tests(names, files)
    total = reached = 0
    failed = False
    if tap:
        print(f"1..{len(files)}")
    else:
        print(f"{len(names)} tests\n{'file':32} lines reached percent")
    for path in files:
        text, lines = read_lines(path, found)
        n, hit = len(lines), sum(1 for c in lines.values() if c > 0)
        bare, reasons, stale = judge(text, lines)
        total, reached = total + n, reached + hit
        bad = bool(bare) or n == 0
        failed |= bad
        percent = 100 * hit / n if n else 0
        if tap:
            print(f"{'not ok' if bad else 'ok'} - {path}: {hit} of {n} lines, "
                  f"{len(reasons)} reasons")
        else:
            print(f"{path:32} {n:5} {hit:7} {percent:6.1f}%")
        if n == 0:
            print(f"#   {path}: no line was counted")
        for number, line in bare:
            print(f"#   {path}:{number}: not reached, no reason: {line}")
        for number, reason in reasons if show else ():
            print(f"#   {path}:{number}: {reason}")
        for number in () if path.endswith(".l") else stale:
            print(f"#   {path}:{number}: reached after all: "
                  "the reason may go")
    print(f"# {reached} of {total} lines, "
          f"{100 * reached / max(total, 1):.1f} percent")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
