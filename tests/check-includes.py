#!/usr/bin/env python3
"""Includes point down only: each folder of src/ may include itself and those
that ORDER names before it, and what EXTRA allows besides. One case a file."""

import os
import re
import sys

from lib import house

ORDER = ("base", "door", "app", "loop", "stage", "http", "conf", "module",
         "front", "bus", "cohort", "ctl", "main")
# Beyond the order: folder -> headers above it that hold nothing but constants
# and inline functions.
EXTRA = {"app": {"http/http.h"}}
# The layer that each public header belongs to. sys/stat.h is the C library's with
# a type more, for anybody.
PUBLIC = {"door.h": "door", "stropts.h": "door", "ucred.h": "door",
          "thread.h": "door", "synch.h": "door", "cardea.h": "app",
          "sys/stat.h": "base"}
# Programs outside src/: which layers they may use ("public": include/ only).
OUTSIDE = {
    "shims": ("base", "door", "app", "loop", "stage", "http", "conf",
              "module"),
    "bindings/python": ("public",),
    "examples": ("public",),
    "tests/programs": ("public",),
}

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^">]+)[">]', re.M)


def layer_of(path):
    """Layer of a file in src/ or include/, or None."""
    parts = path.split("/")
    if parts[0] == "include":
        return PUBLIC.get("/".join(parts[1:]))
    if parts[0] == "src":
        return parts[1] if len(parts) > 2 else "main"
    return None


def resolve(path, mark, name):
    """The repository's file that an include names, or None: not ours."""
    places = ["src", "include"]
    if mark == '"':
        places.insert(0, os.path.dirname(path))
    for place in places:
        full = os.path.normpath(os.path.join(place, name))
        if os.path.isfile(os.path.join(house.ROOT, full)):
            return full
        # Made by the build from a grammar or a scanner of that name.
        for made in (full[:-2] + ".y", full[:-2] + ".l"):
            if os.path.isfile(os.path.join(house.ROOT, made)):
                return made
    return None


def allowed_layers(path):
    own = layer_of(path)
    if own in ORDER:
        return set(ORDER[:ORDER.index(own) + 1])
    for folder, layers in OUTSIDE.items():
        if path.startswith(folder + "/"):
            return set(layers)
    return None


def faults_of(path, text):
    own = layer_of(path)
    if path.startswith("src/") and own not in ORDER:
        return [f"folder {own} has no place in the order; add it to ORDER"]
    if path.startswith("include/") and own is None:
        return ["this public header belongs to no layer; add it to PUBLIC"]
    allowed = allowed_layers(path)
    if allowed is None:
        return []
    faults = []
    for match in INCLUDE.finditer(text):
        mark, name = match.groups()
        line = text.count("\n", 0, match.start()) + 1
        target = resolve(path, mark, name)
        if target is None:
            # A generated header lies in the file's own folder; all else that
            # is quoted must be there.
            if mark == '"' and "/" in name:
                faults.append(f"{path}:{line}: no such header: {name}")
            continue
        if path.startswith("include/") and not target.startswith("include/"):
            faults.append(f"{path}:{line}: a public header includes {target}")
            continue
        if "public" in allowed:
            same = os.path.dirname(target) == os.path.dirname(path)
            if not same and not target.startswith("include/"):
                faults.append(f"{path}:{line}: only public headers here, not "
                              + target)
            continue
        to = layer_of(target)
        if to is None or to in allowed:
            continue
        if target[len("src/"):] in EXTRA.get(own, ()):
            continue
        faults.append(f"{path}:{line}: {own or path.split('/')[0]} must not "
                      f"include {target}: it lies above")
    return faults


def main():
    tap = house.Tap()
    for path in house.files(".c", ".h", ".y", ".l"):
        top = path.split("/")[0]
        if top in ("src", "include") or allowed_layers(path) is not None:
            tap.case(path, faults_of(path, house.text(path)))
    # The check itself: an upward include must be seen.
    seen = faults_of("src/base/x.c", '#include <door.h>\n')
    tap.case("an upward include is seen",
             [] if seen or not os.path.exists(
                 os.path.join(house.ROOT, "include/door.h"))
             else ["base may include door.h?"])
    return tap.done()


if __name__ == "__main__":
    sys.exit(main())
