"""Programs linked with libdoor in each way that there is, and programs that know
nothing of it and have it loaded first."""

import os
import shutil
import subprocess
import sys

from lib import house

OLD = ["-std=gnu89", "-w", os.path.join(house.ROOT, "tests/period/implicit.c")]
SOURCE = "int twice(int n) { return 2 * n; }"
WAIT = 120


def run(command, folder, **env):
    """(status, output); a status that says why where it did not end."""
    try:
        done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              env=dict(os.environ, **env), timeout=WAIT,
                              check=False)
    except subprocess.TimeoutExpired:
        return "timeout", ""
    return done.returncode, done.stdout.decode("utf-8", "replace")


def ways(root):
    """Each: name, compiler and flags, library, what the program is run by."""
    shared = [f"-L{root}/lib", "-ldoor", f"-Wl,-rpath,{root}/lib"]
    archive = [f"{root}/lib/libdoor.a"]
    no_aslr = ["setarch", "-R"]
    yield "shared", ["gcc"], shared, []
    yield "shared, as needed", ["gcc", "-Wl,--as-needed"], shared, []
    yield ("fortified", ["gcc", "-O2", "-D_FORTIFY_SOURCE=2",
                         "-D_FILE_OFFSET_BITS=64"], shared, [])
    yield "archive", ["gcc"], archive, []
    yield "static", ["gcc", "-static"], archive, []
    yield "static-pie", ["gcc", "-static-pie"], archive, []
    for compiler in ("gcc", "clang"):
        yield (f"{compiler}, ASan", [compiler, "-fsanitize=address"], shared,
               [])
        yield (f"{compiler}, TSan", [compiler, "-fsanitize=thread"], shared,
               no_aslr)
        yield (f"{compiler}, TSan, archive", [compiler, "-fsanitize=thread"],
               archive, no_aslr)
    yield ("memcheck", ["gcc", "-g"], shared,
           ["valgrind", "-q", "--error-exitcode=9"])


def cases(tap, root, folder):
    """The program without declarations, linked each way against what is
    installed in ROOT."""
    program = os.path.join(folder, "linked")
    headers = f"-I{root}/include/cardea"
    for name, compiler, library, by in ways(root):
        title = f"a program linked with libdoor: {name}"
        missing = [t for t in compiler[:1] + by[:1] if not shutil.which(t)]
        if missing:
            tap.skip(title, f"no {missing[0]}")
            continue
        status, out = run(compiler + [headers] + OLD + library +
                          ["-pthread", "-o", program], folder)
        if status == 0:
            status, out = run(by + [program], folder)
            if "ok 1 - " not in out:
                status = status or "silent"
        tap.case(title, [] if status == 0 else [f"{status}: {out[-2000:]}"])


FOREIGN = {
    "ls": ["ls", "-laR", "/usr/include/linux"],
    "sh": ["sh", "-c", "echo one >a && cat a && echo two >>a && cat <a "
           "&& test -f a && cp a b && cmp a b && rm a b && ls a"],
    "python3": [sys.executable, "-c", "import json, os, tempfile\n"
                "f = tempfile.TemporaryFile()\nf.write(b'x' * 9)\nf.flush()\n"
                "print(os.fstat(f.fileno()).st_size, os.stat('/').st_mode)"],
    "git": ["git", "-C", house.ROOT, "ls-files"],
    "sqlite3": ["sqlite3", "db", "drop table if exists t; create table t(a);"
                "insert into t values (1), (2); select sum(a) from t;"],
    "gcc": ["gcc", "-S", "-o", "-", "twice.c"],
    "clang": ["clang", "-S", "-o", "-", "twice.c"],
    "find": ["find", "/usr/include", "-maxdepth", "1", "-newermt",
             "2001-01-01"],
    "tar": ["tar", "cf", "-", "-C", house.ROOT, "man"],
    "perl": ["perl", "-e", "open F, '<', '/etc/passwd'; print <F>, -s F"],
}


def preload_cases(tap, root, folder):
    """Programs that know nothing of doors say the same with libdoor loaded."""
    library = os.path.join(root, "lib", "libdoor.so.0")
    with open(os.path.join(folder, "twice.c"), "w", encoding="utf-8") as f:
        f.write(SOURCE + "\n")
    for name, command in FOREIGN.items():
        title = f"{name} is the same with libdoor loaded first"
        if not shutil.which(command[0]):
            tap.skip(title, f"no {name}")
            continue
        alone = run(command, folder)
        loaded = run(command, folder, LD_PRELOAD=library)
        faults = []
        if alone[0] == "timeout" or not alone[1]:
            faults.append(f"alone: {alone[0]}")
        if alone != loaded:
            faults.append(f"{alone[0]}, loaded: {loaded[0]} {loaded[1][-500:]}")
        tap.case(title, faults)
