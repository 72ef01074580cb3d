#!/usr/bin/env python3
"""What the documents promise is there: each `make X` is a target, each linked
file exists, each configuration in them and in examples/ names known things."""

import os
import re
import sys

from lib import house

TARGET = re.compile(r"^([a-z][a-z-]*):", re.M)
# In code: `make x`, or a line of a code block.
COMMAND = re.compile(r"(?:`|^[ \t]*(?:\$ )?)make ([a-z][a-z-]*)", re.M)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def targets():
    return set(TARGET.findall(house.text("Makefile")))


def faults_of(path, text, known):
    faults = [f"{path}: make has no target '{t}'"
              for t in sorted(set(COMMAND.findall(text)) - known)]
    for link in LINK.findall(text):
        if "://" in link:
            continue
        full = os.path.normpath(os.path.join(os.path.dirname(path), link))
        if not os.path.exists(os.path.join(house.ROOT, full)):
            faults.append(f"{path}: links {link}, which is not there")
    return faults


def main():
    tap = house.Tap()
    known = targets()
    tap.case("the Makefile's targets are the promised ones", [
        f"no target {t}" for t in ("run", "build", "test", "bench", "fuzz",
                                   "soak", "format", "check-format",
                                   "install", "clean") if t not in known])
    tap.case("a wrong target is seen",
             [] if faults_of("x.md", "`make tea`", known) else ["it is not"])
    for name in ("README.md", "HACKING.md", "CHANGELOG.md", "LICENSE"):
        tap.case(f"{name} is there", [] if os.path.exists(
            os.path.join(house.ROOT, name)) else ["it is not"])
    for path in house.files(".md"):
        tap.case(path, faults_of(path, house.text(path), known))
    return tap.done()


if __name__ == "__main__":
    sys.exit(main())
