#!/usr/bin/env python3
"""The table of the doors interface (tests/conformance/table.txt) is whole: each
line has a case that passed or a reason, and each case a line. Prints how many
cases each call has.

    tests/check-conformance.py --build build-asan
"""

import collections
import glob
import json
import os
import re
import subprocess
import sys

from lib import house

TABLE = "tests/conformance/table.txt"


def rows():
    """(number, behaviour, cell) of each line."""
    for line in house.text(TABLE).splitlines():
        if line.strip() and not line.startswith("#"):
            cells = [c.strip() for c in line.split("|", 2)]
            yield tuple(cells + [""] * (3 - len(cells)))


def last_run(build, programs):
    """What `meson test` recorded of PROGRAMS, or None: not of all, or of older
    ones."""
    texts = {}
    for path in glob.glob(os.path.join(build, "meson-logs", "testlog*.json")):
        with open(path, encoding="utf-8") as f:
            for line in f:
                record = json.loads(line)
                name = record["name"].split(" / ")[-1]
                texts[name] = os.path.getmtime(path), record.get("stdout", "")
    for program in programs:
        time, _ = texts.get(os.path.basename(program), (0, ""))
        if time < os.path.getmtime(os.path.join(build, program)):
            return None
    return [texts[os.path.basename(p)][1] for p in programs]


def run_now(build, programs):
    for program in programs:
        yield subprocess.run([os.path.join(build, program)], cwd=house.ROOT,
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL, check=False,
                             timeout=280).stdout.decode()


def run_all(build):
    """{case: passed}; the programs are built if they are not, and run if the last
    run of the unit tests does not tell of them."""
    names = re.findall(r"test-(\w+)\.c", " ".join(
        glob.glob(os.path.join(house.ROOT, "tests", "conformance", "*.c"))))
    programs = [f"tests/conformance/conformance-{n}" for n in sorted(names)]
    subprocess.run(["ninja", "-C", build, "--quiet", *programs],
                   cwd=house.ROOT, stdin=subprocess.DEVNULL, check=True)
    results = {}
    for out in last_run(build, programs) or run_now(build, programs):
        for word, name in re.findall(r"^(ok|not ok) \d+ - (.*)$", out, re.M):
            results[name] = word == "ok"
    return results


def faults_of(cell, results, named):
    if not cell:
        return ["neither a case nor a reason"]
    if cell.startswith("-"):
        return [] if len(cell) > 10 else ["'-' needs a reason"]
    faults = []
    for name in re.split(r"\s+;\s+", cell):
        test = re.fullmatch(r"([\w/.-]+\.(?:c|py)):(\w+)", name)
        if test:
            path, function = test.groups()
            if (not os.path.exists(os.path.join(house.ROOT, path))
                    or not re.search(rf"\b{function}\(", house.text(path))):
                faults.append(f"there is no {name}")
            continue
        named.add(name)
        if name not in results:
            faults.append(f"no such case ran: {name}")
        elif not results[name]:
            faults.append(f"it failed: {name}")
    return faults


def main(arguments):
    build = os.path.join(house.ROOT, arguments[1] if arguments[:1] == ["--build"]
                         else "build-asan")
    tap = house.Tap()
    results = run_all(build)
    named, numbers = set(), collections.Counter()
    for number, behaviour, cell in rows():
        numbers[number] += 1
        faults = faults_of(cell, results, named)
        if numbers[number] > 1:
            faults.append("this number is used twice")
        if not behaviour:
            faults.append("what does it do?")
        tap.case(f"{number} {behaviour}", faults)
    tap.case("each case has a line",
             [f"no line names: {c}" for c in sorted(set(results) - named)])
    counts = collections.Counter(c.split(":")[0] for c in results)
    print("# cases: " + ", ".join(f"{k} {n}" for k, n in sorted(counts.items())))
    print(f"# {sum(counts.values())} cases, {len(numbers)} lines")
    return tap.done()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
