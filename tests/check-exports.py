#!/usr/bin/env python3
"""What libdoor.so shows is what src/door/door.map lists, and each of it has its
place in section 3 of the manual, or is the C library's own call."""

import os
import re
import subprocess
import sys

from lib import house

MAP = "src/door/door.map"
LIBRARY = "build-asan/libdoor.so"
# The heading in the map of what other manuals describe.
NOT_OURS = "the C library's"


def listed():
    """Name -> heading, in the order of the map."""
    names, heading = {}, ""
    body = house.text(MAP).split("global:")[1].split("local:")[0]
    for comment, name in re.findall(r"/\*\s*(.*?)\s*\*/|(\w+);", body, re.S):
        heading = comment or heading
        if name:
            names[name] = heading
    return names


def shown(path):
    out = subprocess.run(["nm", "-D", "--defined-only", path], cwd=house.ROOT,
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                         check=True).stdout.decode()
    return {line.split()[-1] for line in out.splitlines()}


def described():
    """Names that a page of section 3 has under NAME or in its SYNOPSIS."""
    names = set()
    for path in house.files(".3"):
        text = house.text(path)
        head = re.search(r"^\.Sh NAME$(.*?)^\.Sh DESCRIPTION$", text,
                         re.M | re.S)
        if head:
            names |= set(re.findall(r'^\.(?:Nm|Fn|Fo) "?(\w+)', head.group(1),
                                    re.M))
    return names


def main():
    tap = house.Tap()
    names = listed()
    if os.path.exists(os.path.join(house.ROOT, LIBRARY)):
        there = shown(LIBRARY)
        tap.case("the library shows what the map lists",
                 [f"shown, but not listed: {n}" for n in
                  sorted(there - set(names))] +
                 [f"listed, but not there: {n}" for n in
                  sorted(set(names) - there)])
    else:
        tap.skip("the library shows what the map lists", f"no {LIBRARY}")
    pages = described()
    for name, heading in names.items():
        if not heading.startswith(NOT_OURS):
            tap.case(f"{name} is in the manual",
                     [] if name in pages else ["no page of section 3 has it"])
    return tap.done()


if __name__ == "__main__":
    sys.exit(main())
