#!/usr/bin/env python3
"""Writable globals are what a heir cannot see: a worker's state lies in its
arena. This looks for symbols in .data, .bss, .tdata and .tbss (relocated
constants do not count) of static libraries, outside a short list.

    check-globals.py [--stamp FILE] ALLOW LIB.a...     as a step of the build
    check-globals.py --build FOLDER                    as a test: TAP lines

ALLOW holds one `library symbol reason` a line; # starts a comment. A line that
fits nothing any more is an error too. Exit status 1 and one sentence a symbol.
"""

import os
import re
import subprocess
import sys

# The layers whose code runs in a worker.
LAYERS = ("base", "loop", "stage", "http", "conf", "module", "front")
# A line of `nm --format=sysv`: name|value|class|type|size|line|section.
# (Not readelf: it cannot read the thin archives that Meson makes.)
SYMBOL = re.compile(r"^(\S+) *\|[^|]*\| *(\w) *\| *(\w+) *\|[^|]*\|[^|]*\|"
                    r"(\S+)", re.M)
# What sanitizers, coverage and fuzzers put there.
MADE = re.compile(r"^(\.L|__asan|__odr_asan|__ubsan|__tsan|__sanc|__sancov|"
                  r"__gcov|__llvm|__prof|__unnamed_|__start_|__stop_|___asan)")
WRITABLE = re.compile(r"^\.(data|bss|tdata|tbss)(?!\.rel\.ro)(\..*)?$")


def writable_symbols(text):
    """Yields (member, symbol) of what stands in writable sections, from the
    output of `nm --format=sysv`."""
    member = ""
    for line in text.splitlines():
        if line.endswith(":") and ".o" in line:
            member = re.search(r"([^/\[\s]+\.o)\]?:$", line)
            member = member.group(1) if member else line
            continue
        m = SYMBOL.match(line)
        if not m or MADE.match(m.group(1)):
            continue
        name, letter, kind, section = m.groups()
        if kind in ("OBJECT", "TLS", "COMMON") and \
                (letter in "Cc" or WRITABLE.match(section)):
            yield member, name


def read_allow(path):
    """{(library, symbol): reason}; exits with 64 on a line without a reason."""
    allowed = {}
    with open(path, encoding="utf-8") as f:
        for number, line in enumerate(f, 1):
            line = line.split("#", 1)[0].strip()
            if not line:
                continue
            words = line.split(None, 2)
            if len(words) < 3:
                sys.exit(f"{path}:{number}: want: library symbol reason")
            allowed[(words[0], words[1])] = words[2]
    return allowed


def base_of(symbol):
    """The name in the source: a function's static is name.0 to gcc and
    function.name to clang."""
    parts = [p for p in symbol.split(".") if p and not p.isdigit()]
    return parts[-1] if parts else symbol


def name_of(library):
    return re.sub(r"^lib|\.a$", "", os.path.basename(library))


def faults_of(library, allowed, used):
    done = subprocess.run(["nm", "--format=sysv", library],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          env=dict(os.environ, LC_ALL="C"), check=False)
    text = done.stdout.decode("utf-8", "replace")
    if done.returncode != 0:
        return [f"nm of {library}: {done.stderr.decode().strip()}"]
    if not SYMBOL.search(text):
        return [f"{library}: no symbols to look at (built with -flto?)"]
    faults = []
    for member, symbol in writable_symbols(text):
        key = (name_of(library), base_of(symbol))
        if key in allowed:
            used.add(key)
            continue
        faults.append(f"{library}: {base_of(symbol)} is a writable global "
                      f"({os.path.basename(member)}): its place is the arena "
                      "or a caller's struct; or add it, with the reason, to "
                      "tests/globals.allow")
    return faults


def stale(allowed, used, libraries):
    names = {name_of(lib) for lib in libraries}
    return [f"globals.allow: {lib} {sym} is no longer there; drop the line"
            for lib, sym in sorted(allowed) if lib in names
            and (lib, sym) not in used]


def as_step(arguments):
    stamp = None
    if arguments[:1] == ["--stamp"]:
        stamp, arguments = arguments[1], arguments[2:]
    if len(arguments) < 2:
        sys.exit(__doc__)
    allowed, used = read_allow(arguments[0]), set()
    faults = [f for lib in arguments[1:] for f in faults_of(lib, allowed, used)]
    faults += stale(allowed, used, arguments[1:])
    for fault in faults:
        print(fault, file=sys.stderr)
    if faults:
        return 1
    if stamp:
        with open(stamp, "w", encoding="utf-8") as f:
            f.write(f"{len(arguments) - 1} libraries\n")
    return 0


def planted():
    """A planted global must be found, a constant table must not."""
    import tempfile
    with tempfile.TemporaryDirectory() as at:
        source = os.path.join(at, "x.c")
        with open(source, "w", encoding="utf-8") as f:
            f.write("int a = 1; int b; static __thread int c; int f(void);\n"
                    "extern const char *const t[2];\n"
                    'const char *const t[2] = {"x", "y"};\n'
                    "int f(void) { static int d; return ++c + ++d; }\n")
        lib = os.path.join(at, "libx.a")
        cc = os.environ.get("CC", "cc").split()
        subprocess.run(cc + ["-fPIC", "-O0", "-c", "x.c", "-o", "x.o"],
                       cwd=at, check=True)
        subprocess.run(["ar", "rcs", lib, "x.o"], cwd=at, check=True)
        found = {s for f in faults_of(lib, {}, set())
                 for s in re.findall(r": (\w+) is a writable", f)}
    return [] if found == {"a", "b", "c", "d"} else [f"found {sorted(found)}"]


def as_test(folder):
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    from lib import house
    tap = house.Tap()
    tap.case("planted globals are found", planted())
    allow = os.path.join(house.ROOT, "tests", "globals.allow")
    allowed, used, seen = read_allow(allow), set(), []
    for layer in LAYERS:
        at = os.path.join(house.ROOT, folder, "src", layer)
        libs = sorted(os.path.join(at, n) for n in os.listdir(at)
                      if n.endswith(".a")) if os.path.isdir(at) else []
        for lib in libs:
            seen.append(lib)
            tap.case(os.path.relpath(lib, house.ROOT),
                     faults_of(lib, allowed, used))
    tap.case("globals.allow names nothing that is gone",
             stale(allowed, used, seen))
    tap.case("there are libraries to look at",
             [] if seen else [f"no library in {folder}/src/*"])
    return tap.done()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--build"]:
        sys.exit(as_test(sys.argv[2]))
    sys.exit(as_step(sys.argv[1:]))
