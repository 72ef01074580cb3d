#!/usr/bin/env python3
"""`make install` into an empty folder: all that should be there and nothing
else, usable from there with pkg-config alone, and taken away by `make
uninstall`."""

import glob
import os
import re
import select
import shutil
import subprocess
import sys
import tempfile
import urllib.request

from lib import house, linking

PREFIX = "/opt/cardea"
FOLDER = "build-install"
FILES = {
    "bin/cardea", "libexec/cardea/cardea-exec",
    "libexec/cardea/cardea-inetd", "libexec/cardea/cardea-backend",
    "include/cardea/cardea.h", "include/cardea/door.h",
    "include/cardea/stropts.h", "include/cardea/sys/stat.h",
    "include/cardea/synch.h", "include/cardea/thread.h", "include/cardea/ucred.h",
    "lib/libdoor.a", "lib/libdoor.so", "lib/libdoor.so.0",
    "lib/libdoor.so.0.1.0",
    "lib/pkgconfig/door.pc", "lib/pkgconfig/cardea.pc",
    "share/doc/cardea/LICENSE", "share/doc/cardea/README.md",
    "share/doc/cardea/CHANGELOG.md",
}
# Where the build found the headers of Python.
PYTHON = {"libexec/cardea/python/cardea/" + name for name in
          ("__init__.py", "__main__.py", "life.py", "printed.py",
           "start.py", "wsgi.py", "_door.abi3.so")}
COMPLETION = {"share/bash-completion/completions/cardea",
              "share/zsh/site-functions/_cardea"}
# What our programs may need from the system: the C library, and what older ones
# kept apart from it.
LIBC = {"libc.so.6", "libm.so.6", "libpthread.so.0", "ld-linux-x86-64.so.2",
        "ld-linux-aarch64.so.1"}
WAIT = 30


def run(command, **more):
    done = subprocess.run(command, cwd=house.ROOT, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          check=False, **more)
    return done.returncode, done.stdout.decode("utf-8", "replace")


def make(target, place):
    # Make's own variables, when we run below it, are not for this one.
    env = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}
    return run(["make", "--no-print-directory", target, "CC=gcc",
                f"DESTDIR={place}", f"PREFIX={PREFIX}", f"RELEASE={FOLDER}"],
               env=env)


def listed(place):
    """Files and links below PLACE, relative to it."""
    return {os.path.relpath(os.path.join(at, n), place)
            for at, _, names in os.walk(place) for n in names}


def list_faults(place):
    pages = {f"share/man/man{p[-1]}/{os.path.basename(p)}"
             for p in house.files(*(f".{n}" for n in range(1, 9)))
             if re.fullmatch(r"man/[^/]+", p)}
    # Links to them, by the names of the other calls that they tell of.
    aliases = house.text("man/meson.build").split("aliases = {")[1].split("}")[0]
    pages |= {f"share/man/man3/{name}.3" for names in
              re.findall(r"\[(.*?)\]", aliases, re.S)
              for name in re.findall(r"'(\w+)'", names)}
    inside = {os.path.relpath("/" + p, PREFIX) for p in listed(place)}
    want = FILES | pages
    if inside & COMPLETION:
        want |= COMPLETION  # for both shells
    if inside & PYTHON:
        want |= PYTHON
    return ([f"missing: {p}" for p in sorted(want - inside)] +
            [f"unexpected: {p}" for p in sorted(inside - want)])


def dynamic(path, tag):
    _, out = run(["readelf", "-dW", path])
    return re.findall(rf"\({tag}\).*\[([^\]]+)\]", out)


def library_faults(root):
    faults = []
    path = os.path.join(root, "lib", "libdoor.so.0.1.0")
    if dynamic(path, "SONAME") != ["libdoor.so.0"]:
        faults.append(f"soname of libdoor: {dynamic(path, 'SONAME')}")
    for link, to in (("libdoor.so", "libdoor.so.0"),
                     ("libdoor.so.0", "libdoor.so.0.1.0")):
        full = os.path.join(root, "lib", link)
        if not os.path.islink(full) or os.readlink(full) != to:
            faults.append(f"{link} does not lead to {to}")
    for name in ("bin/cardea", "libexec/cardea/cardea-exec",
                 "libexec/cardea/cardea-inetd",
                 "libexec/cardea/cardea-backend",
                 "lib/libdoor.so.0.1.0"):
        more = set(dynamic(os.path.join(root, name), "NEEDED")) - LIBC
        if more:
            faults.append(f"{name} needs {sorted(more)}")
        for tag in ("RPATH", "RUNPATH"):
            if dynamic(os.path.join(root, name), tag):
                faults.append(f"{name} has an {tag}")
    return faults


def archive_faults(root):
    """libdoor.a gives names to programs that src/door/door.map lists, no more."""
    listed = set(re.findall(r"^    (\w+);$", house.text("src/door/door.map"),
                            re.M))
    _, out = run(["nm", "--defined-only", "-g",
                  os.path.join(root, "lib", "libdoor.a")])
    given = set(re.findall(r"^[0-9a-f]+ [A-Z] (\w+)$", out, re.M))
    return ([f"it gives {n} too" for n in sorted(given - listed)] +
            [f"it lacks {n}" for n in sorted(listed - given)])


def compile_hello(place, root, folder):
    """README's own program, with what pkg-config says. Faults."""
    source = re.search(r"```c\n(.*?)```", house.text("README.md"), re.S)
    if not source:
        return ["README has no program"]
    with open(os.path.join(folder, "hello.c"), "w", encoding="utf-8") as f:
        f.write(source.group(1))
    env = dict(os.environ, PKG_CONFIG_SYSROOT_DIR=place, PKG_CONFIG_PATH="",
               PKG_CONFIG_LIBDIR=os.path.join(root, "lib", "pkgconfig"))
    faults = []
    for package in ("door", "cardea"):
        status, flags = run(["pkg-config", "--cflags", "--libs", package],
                            env=env)
        if status != 0:
            faults.append(flags)
            continue
        # A module's environment has no LD_LIBRARY_PATH.
        status, out = run(
            ["gcc", "-Wall", "-Wextra", "-Werror", f"{folder}/hello.c",
             *flags.split(), f"-Wl,-rpath,{root}/lib", "-o",
             f"{folder}/hello"])
        if status != 0:
            faults.append(f"with {flags}{out}")
    return faults


def fetch(url):
    with urllib.request.urlopen(url, timeout=WAIT) as reply:
        return reply.read()


def ready_line(child):
    """The first line that CHILD prints, within WAIT seconds."""
    readable, _, _ = select.select([child.stdout], [], [], WAIT)
    return child.stdout.readline().decode() if readable else ""


def serve_faults(root, folder):
    """The installed server with that program, a command, and Python."""
    python = os.path.exists(os.path.join(root, sorted(PYTHON)[0]))
    with open(os.path.join(folder, "hello.py"), "w", encoding="utf-8") as f:
        f.write("def application(environ, start_response):\n"
                "    start_response('200 OK', [])\n"
                "    return [b'snake']\n")
    with open(os.path.join(folder, "cardea.conf"), "w", encoding="utf-8") as f:
        f.write('module hello { run "./hello" }\n'
                "module env { exec \"printf 'Content-Type: a/b\\\\n\\\\nok'\" }\n"
                f'set run-folder "{folder}/run"\n'
                f'set state-folder "{folder}/state"\n'
                + ('module snake { wsgi "hello.py" }\n' if python else "") +
                "forward http 127.0.0.1:0 to {\n"
                "    map GET /hello to hello\n    map GET /env to env\n"
                + ("    map GET /snake to snake\n" if python else "") + "}\n")
    child = subprocess.Popen(
        [os.path.join(root, "bin", "cardea"), "run", "-f",
         os.path.join(folder, "cardea.conf")], stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    faults = []
    try:
        line = ready_line(child)
        url = re.match(r"ready url=(\S+)", line)
        if not url:
            child.terminate()
            return [f"not ready: {line}{child.communicate()[1].decode()}"]
        for path, want in (("hello", b"Well, hello to you too!\n"),
                           ("env", b"ok"),
                           *([("snake", b"snake")] if python else [])):
            got = fetch(url.group(1) + path)
            if got != want:
                faults.append(f"/{path}: {got}")
    except OSError as e:
        faults.append(str(e))
    finally:
        child.terminate()
        try:
            _, log = child.communicate(timeout=WAIT)
        except subprocess.TimeoutExpired:
            child.kill()
            _, log = child.communicate()
        if child.returncode != 0:
            faults.append(f"it left with {child.returncode}")
    return faults + ([log.decode()] if faults else [])


def page_faults(root):
    pages = sorted(glob.glob(os.path.join(root, "share", "man", "man?", "*")))
    faults = [] if len(pages) > 10 else [f"only {len(pages)} pages"]
    for page in pages:
        status, out = run(["mandoc", "-Tlint", "-Wwarning", page])
        if status != 0:
            faults.append(out)
        status, out = run(["mandoc", "-Tutf8", page])
        if status != 0 or len(out) < 300:
            faults.append(f"{page} does not render")
    return faults


def main():
    tap = house.Tap()
    place = tempfile.mkdtemp(prefix="cardea-install-")
    root = place + PREFIX
    folder = tempfile.mkdtemp(prefix="cardea-user-")
    try:
        status, out = make("install", place)
        tap.case("make install", [] if status == 0 else [out])
        if status != 0:
            return tap.done()
        want = f"install: Cardea is in {root}; try: {root}/bin/cardea help"
        tap.case("make install ends with where it is",
                 [] if out.splitlines()[-1:] == [want] else [out])
        status, out = make("install", place)
        tap.case("make install says nothing else where all is built",
                 [] if (status, out) == (0, want + "\n") else [out])
        tap.case("what is installed, and nothing outside the prefix",
                 list_faults(place))
        tap.case("libraries", library_faults(root))
        tap.case("names of the archive", archive_faults(root))
        faults = compile_hello(place, root, folder)
        tap.case("README's program compiles with pkg-config alone", faults)
        if not faults:
            tap.case("the installed server serves it",
                     serve_faults(root, folder))
        linking.cases(tap, root, folder)
        linking.preload_cases(tap, root, folder)
        if shutil.which("mandoc"):
            tap.case("the installed pages", page_faults(root))
        else:
            tap.skip("the installed pages", "no mandoc here")
        status, out = make("uninstall", place)
        tap.case("make uninstall leaves no file",
                 [out] if status != 0 else sorted(listed(place)))
        tap.case("make uninstall says one line",
                 [] if re.fullmatch(r"uninstall: files removed: \d+\n", out)
                 else [out])
    finally:
        shutil.rmtree(place, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
    return tap.done()


if __name__ == "__main__":
    sys.exit(main())
