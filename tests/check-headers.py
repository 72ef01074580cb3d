#!/usr/bin/env python3
"""Each header compiles alone, with gcc and with clang; the public ones also
without _GNU_SOURCE, as C99-and-later callers see them, in each dialect of C, and as
C++. So do the programs of tests/period, in the dialects that they are written in."""

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

from lib import house

WARN = ["-Wall", "-Wextra", "-Wshadow", "-Wundef", "-Werror",
        "-Wno-unused-function", "-fsyntax-only"]
C_ONLY = ["-Wstrict-prototypes", "-Wmissing-prototypes"]
DIALECTS = ("c89", "gnu89", "c99", "gnu99", "c11", "gnu17")
# Programs of the time, and the dialects that they must be good in.
PERIOD = {"tests/period/implicit.c": ("gnu89",),
          "tests/period/threads.c": ("gnu99", "gnu11", "gnu17"),
          "tests/period/layouts.c": ("gnu11", "gnu17")}
OLD_STYLE = ["-Wno-implicit-function-declaration", "-Wno-implicit-int",
             "-Wno-old-style-definition", "-Wno-deprecated-non-prototype",
             "-Wno-unknown-warning-option", "-Wno-unused-parameter",
             "-Wno-strict-prototypes", "-Wno-return-type"]


def compile_alone(command, header, language):
    with tempfile.NamedTemporaryFile("w", suffix=".c") as f:
        f.write(f'#include "{os.path.join(house.ROOT, header)}"\n')
        f.flush()
        done = subprocess.run(
            command + ["-x", language, f.name], cwd=house.ROOT,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, check=False)
    return [] if done.returncode == 0 else [done.stdout.decode()]


def jobs():
    for compiler in ("gcc", "clang"):
        if not shutil.which(compiler):
            yield compiler, None, None
            continue
        for header in house.files(".h"):
            if header.startswith(("src/", "shims/")):
                yield (f"{compiler} {header}",
                       [compiler, "-std=gnu11", "-D_GNU_SOURCE",
                        '-DCARDEA_VERSION="0"', "-Isrc", "-Iinclude"] + WARN
                       + C_ONLY, (header, "c"))
            elif header.startswith("include/"):
                yield (f"{compiler} {header}",
                       [compiler, "-std=c99", "-pedantic",
                        "-D_POSIX_C_SOURCE=200809L", "-Iinclude"] + WARN
                       + C_ONLY, (header, "c"))
        for header in house.files(".h"):
            for std in DIALECTS:
                if header.startswith("include/") and "cardea" not in header:
                    yield (f"{compiler} -std={std} -pedantic {header}",
                           [compiler, f"-std={std}", "-pedantic", "-Iinclude"]
                           + WARN, (header, "c"))
        for program, stds in PERIOD.items():
            for std in stds:
                yield (f"{compiler} -std={std} {program}",
                       [compiler, f"-std={std}", "-Iinclude"] + WARN +
                       (OLD_STYLE if std == "gnu89" else C_ONLY),
                       (program, "c"))
    cxx = shutil.which("g++") or shutil.which("clang++")
    for header in house.files(".h"):
        if header.startswith("include/"):
            yield (f"C++ {header}",
                   cxx and [cxx, "-std=c++17", "-Iinclude", "-Wall", "-Wextra",
                            "-Werror", "-fsyntax-only"],
                   (header, "c++"))
    yield ("C++ tests/period/layouts.c",
           cxx and [cxx, "-std=c++17", "-Iinclude", "-Wall", "-Wextra",
                   "-Werror", "-fsyntax-only"], ("tests/period/layouts.c", "c++"))


def main():
    tap = house.Tap()
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 2) as pool:
        todo = [(name, command and pool.submit(compile_alone, command, *what))
                for name, command, what in jobs()]
        for name, done in todo:
            if done:
                tap.case(name, done.result())
            else:
                tap.skip(name, "no such compiler here")
    return tap.done()


if __name__ == "__main__":
    sys.exit(main())
