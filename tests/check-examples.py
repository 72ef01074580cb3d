#!/usr/bin/env python3
"""Every whole program under EXAMPLES of man/*.3 compiles without a warning and
links with libdoor: that of the build folder (CARDEA_BUILD, else build-asan),
with its sanitizers. Without a build it is compiled only."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

from lib import house

FLAGS = ["-Wall", "-Werror", "-Iinclude"]
PROGRAM = re.compile(r"\bint main\(|\bmain\(void\)|^main\(", re.M)
# What a page may write in a literal block, and what it means.
ESCAPES = {"\\e": "\\", "\\-": "-", "\\&": "", "\\(aq": "'", "\\(dq": '"'}


def plain(line):
    """LINE of a page as it reads; ValueError for an escape that is not known
    here, for then the example would not be what the reader sees."""
    def meaning(m):
        if m.group(0) not in ESCAPES:
            raise ValueError(f"escape {m.group(0)} in: {line}")
        return ESCAPES[m.group(0)]
    return re.sub(r"\\(?:\(..|.|$)", meaning, line)


def examples_of(text):
    """The programs of a page: (number of the first line, source)."""
    found = []
    section, start, block = "", 0, None
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith(".Sh "):
            section = line[4:].strip().strip('"')
        elif section == "EXAMPLES" and line.startswith(".Bd -literal"):
            start, block = number + 1, []
        elif line.startswith(".Ed") and block is not None:
            source = "\n".join(block) + "\n"
            if PROGRAM.search(source):
                found.append((start, source))
            block = None
        elif block is not None:
            block.append(line)
    return [(at, "\n".join(plain(x) for x in s.split("\n")))
            for at, s in found]


def find_build():
    """The folder with a libdoor.a to link with, or None."""
    for folder in (os.environ.get("CARDEA_BUILD"),
                   os.path.join(house.ROOT, "build-asan")):
        if folder and os.path.exists(os.path.join(folder, "libdoor.a")):
            return folder
    return None


def sanitizers_of(build):
    """What BUILD was configured with, as for -fsanitize=; "" for nothing."""
    path = os.path.join(build, "meson-info", "intro-buildoptions.json")
    if not os.path.exists(path):
        return ""
    with open(path, encoding="utf-8") as f:
        values = {o["name"]: o["value"] for o in json.load(f)}
    value = values.get("b_sanitize", "")
    if isinstance(value, list):  # so with newer Meson
        value = ",".join(value)
    return "" if value == "none" else value


def ending(build, folder):
    """What the command line ends with: how far to go, and with what."""
    if not build:
        return ["-fsyntax-only"]
    value = sanitizers_of(build)
    return ([f"-fsanitize={value}"] if value else []) + [
        os.path.join(os.path.abspath(build), "libdoor.a"), "-pthread",
        "-o", os.path.join(folder, "example")]


def faults_of(name, source, build):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "example.c")
        with open(path, "w", encoding="utf-8") as f:
            f.write(source)
        done = subprocess.run(
            ["gcc", *FLAGS, path, *ending(build, folder)], cwd=house.ROOT,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, check=False)
        out = done.stdout.decode("utf-8", "replace").replace(path, name)
    return [] if done.returncode == 0 else [out or f"gcc: {done.returncode}"]


def selftest(build):
    page = (".Sh EXAMPLES\n.Bd -literal\n"
            "#include <stdio.h>\n#include <door.h>\nint\nmain(void)\n{\n"
            "    puts(\"a\\en\");\n%s\n}\n.Ed\n"
            ".Bd -literal\nno program\n.Ed\n.Sh SEE ALSO\n"
            ".Bd -literal\nint main(void) { return x; }\n.Ed\n")
    faults = []

    def judge(line, want_faults):
        found = examples_of(page % line)
        if len(found) != 1 or found[0][0] != 3:
            faults.append(f"not one program at line 3: {found}")
        elif bool(faults_of("page", found[0][1], build)) != want_faults:
            faults.append(f"judged wrongly: {line}")

    judge("    return door_open(\"a\") < 0;", False)
    judge("    return door_opens(\"a\") < 0;", True)
    judge("    int unused;\n    return 0;", True)
    try:
        examples_of(page % "    puts(\"\\fB\");")
        faults.append("an escape that is not known was let through")
    except ValueError:
        pass
    return faults


def main():
    tap = house.Tap()
    pages = [p for p in house.files(".3") if re.fullmatch(r"man/[^/]+", p)]
    if not shutil.which("gcc"):
        tap.skip("examples of the manual", "no gcc here")
        return tap.done()
    build = find_build()
    print(f"# libdoor: {build or 'no build here, compiled only'}")
    tap.case("the check sees what it should", selftest(build))
    checked = 0
    for page in pages:
        try:
            found = examples_of(house.text(page))
        except ValueError as e:
            tap.case(page, [str(e)])
            continue
        for at, source in found:
            checked += 1
            tap.case(f"{page}:{at}", faults_of(f"{page}:{at}", source, build))
    if not checked:
        tap.case("there are examples", ["no page of man/*.3 has a program"])
    return tap.done()


if __name__ == "__main__":
    sys.exit(main())
