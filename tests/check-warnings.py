#!/usr/bin/env python3
"""No C file draws a warning from gcc or from clang, with more of them on than
the build has. `--build FOLDER` names where the generated headers lie."""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from lib import house

FLAGS = ["-std=gnu11", "-D_GNU_SOURCE", '-DCARDEA_VERSION="0"', "-Isrc",
         "-Iinclude", "-fsyntax-only", "-Wall", "-Wextra", "-Wshadow",
         "-Wstrict-prototypes", "-Wmissing-prototypes", "-Wpointer-arith",
         "-Wvla", "-Wundef", "-Wno-missing-field-initializers",
         "-Wno-unused-parameter", "-Werror"]
FOLDERS = ("src/", "shims/", "examples/", "bench/", "tests/")
# Written as of old on purpose; check-headers.py compiles it as such.
OLD = ("tests/period/implicit.c",)


def check(compiler, path, build):
    more = [f"-I{build}/src"] if build else []
    done = subprocess.run(
        [compiler, *FLAGS, *more, "-I" + (os.path.dirname(path) or "."), path],
        cwd=house.ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, check=False)
    return [] if done.returncode == 0 else [done.stdout.decode()]


def main():
    build = sys.argv[2] if sys.argv[1:2] == ["--build"] else None
    tap = house.Tap()
    paths = [p for p in house.files(".c") if p.startswith(FOLDERS) and
             p not in OLD]
    compilers = [c for c in ("gcc", "clang") if shutil.which(c)]
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 2) as pool:
        todo = [(f"{c} {p}", pool.submit(check, c, p, build))
                for c in compilers for p in paths]
        for name, done in todo:
            tap.case(name, done.result())
    return tap.done()


if __name__ == "__main__":
    sys.exit(main())
