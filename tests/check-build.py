#!/usr/bin/env python3
"""Nothing is forgotten by the build: each meson.build is reached by a subdir()
from the root, and each source file is named in the meson.build of its folder
(or of one above)."""

import os
import re
import sys

from lib import house

SUBDIR = re.compile(r"^[ \t]*subdir\(\s*'([^']+)'", re.M)
# Compiled by the scenario tests themselves, not by Meson.
BY_HAND = ()


def reached(folder="", seen=None):
    """Folders whose meson.build is read, and their whole text."""
    seen = {} if seen is None else seen
    path = os.path.join(folder, "meson.build")
    if not os.path.isfile(os.path.join(house.ROOT, path)):
        seen[folder] = None
        return seen
    text = house.text(path)
    seen[folder] = text
    for inner in SUBDIR.findall(text):
        reached(os.path.join(folder, inner), seen)
    return seen


def is_named(path, texts):
    """Is PATH named in a meson.build of its folder or above, as that folder
    would name it: whole, or (in a foreach) without its .c? Or in one below, as
    '../NAME'?"""
    folder = os.path.dirname(path)
    below = f"'../{os.path.basename(path)}'"
    if any(text and below in text for inner, text in texts.items()
           if os.path.dirname(inner) == folder):
        return True
    while True:
        text = texts.get(folder)
        if text:
            name = os.path.relpath(path, folder or ".")
            stem = name.rsplit(".", 1)[0]
            names = {name, stem, os.path.basename(stem),
                     os.path.basename(name)}
            if os.path.basename(stem).startswith(("test-", "fuzz-")):
                names.add(os.path.basename(stem).split("-", 1)[1])
            if any(re.search(r"['/]" + re.escape(n) + "'", text)
                   for n in names):
                return True
        if not folder:
            return False
        folder = os.path.dirname(folder)


def main():
    tap = house.Tap()
    texts = reached()
    for folder, text in sorted(texts.items()):
        tap.case(f"{folder or 'root'}: meson.build",
                 [] if text is not None else ["subdir() of nothing"])
    for path in house.files("meson.build"):
        folder = os.path.dirname(path)
        if folder not in texts:
            tap.case(path, ["no subdir() leads here"])
    for path in house.files(".c", ".y", ".l"):
        if path.startswith(BY_HAND) if BY_HAND else False:
            continue
        tap.case(path, [] if is_named(path, texts) else
                 ["no meson.build names it"])
    return tap.done()


if __name__ == "__main__":
    sys.exit(main())
