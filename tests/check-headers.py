#!/usr/bin/env python3
"""Each header compiles alone, with gcc and with clang; the public ones also
without _GNU_SOURCE, as C99-and-later callers see them, and as C++."""

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
    cxx = shutil.which("g++") or shutil.which("clang++")
    for header in house.files(".h"):
        if header.startswith("include/"):
            yield (f"C++ {header}",
                   cxx and [cxx, "-std=c++17", "-Iinclude", "-Wall", "-Wextra",
                            "-Werror", "-fsyntax-only"],
                   (header, "c++"))


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
