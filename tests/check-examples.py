#!/usr/bin/env python3
"""Every whole program under EXAMPLES of man/*.3 and man/*.7 compiles without a
warning and links with libdoor: that of the build folder (CARDEA_BUILD, else
build-asan), with its sanitizers. Without a build it is compiled only. One that makes a door
at a path serves it, and once more after a kill, which leaves the path behind;
one that makes a door for itself runs to a good end.

Every example of man/cardea.conf.5 is a configuration that `cardea check`
accepts, and so is what `check -v` prints of it; that needs a build."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

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


def is_program(source):
    return bool(PROGRAM.search(source))


def examples_of(text, wanted=is_program):
    """The WANTED examples of a page: (number of the first line, source)."""
    found = []
    section, start, block = "", 0, None
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith(".Sh "):
            section = line[4:].strip().strip('"')
        elif section == "EXAMPLES" and line.startswith(".Bd -literal"):
            start, block = number + 1, []
        elif line.startswith(".Ed") and block is not None:
            source = "\n".join(block) + "\n"
            if wanted(source):
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


SERVES = re.compile(r"\b(?:door_attach|fattach|cardea_serve_threads_at)\(")
# How to see from the outside that a door is at the path.
PROBE = """#include <door.h>
int main(int argc, char **argv)
{
    return argc != 2 || door_open(argv[1]) < 0;
}
"""


def compiled(source, build, folder, name="example.c"):
    """What gcc says of SOURCE, or "": then FOLDER has a program `example`."""
    path = os.path.join(folder, "example.c")
    with open(path, "w", encoding="utf-8") as f:
        f.write(source)
    done = subprocess.run(
        ["gcc", *FLAGS, path, *ending(build, folder)], cwd=house.ROOT,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, check=False)
    out = done.stdout.decode("utf-8", "replace").replace(path, name)
    return "" if done.returncode == 0 else out or f"gcc: {done.returncode}"


def serve_once(program, probe, path):
    """Starts PROGRAM, waits until a door is at PATH, and kills it. What it said
    instead, or ""."""
    with subprocess.Popen([program], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT) as server:
        try:
            end = time.monotonic() + 20
            while subprocess.run([probe, path], check=False).returncode != 0:
                if server.poll() is not None:
                    return server.stdout.read().decode("utf-8", "replace") or \
                        f"it left with {server.returncode}"
                if time.monotonic() > end:
                    return "no door after 20 s"
            return ""
        finally:
            server.kill()


def run_faults(name, source, build):
    """Serves the door of SOURCE twice, in a folder of its own for /tmp."""
    with tempfile.TemporaryDirectory() as folder:
        said = compiled(PROBE, build, folder)
        if said:
            return [said]
        probe = os.path.join(folder, "probe")
        os.rename(os.path.join(folder, "example"), probe)
        source = source.replace('"/tmp/', f'"{folder}/')
        paths = re.findall(f'"({folder}/[^"]*)"', source)
        if len(paths) != 1:
            return [f"{name}: not one path below /tmp: {paths}"]
        said = compiled(source, build, folder, name)
        for nth in ("first", "second") if not said else ():
            said = serve_once(os.path.join(folder, "example"), probe, paths[0])
            if said:
                return [f"{name}: the {nth} start: {said}"]
        return [said] if said else []


# What needs nobody else: it makes its own door, and has no path.
WHOLE = re.compile(r"\b(?:door_x?create|ucred_get)\(")


def faults_of(name, source, build):
    with tempfile.TemporaryDirectory() as folder:
        said = compiled(source, build, folder, name)
        if (not said and build and WHOLE.search(source)
                and not SERVES.search(source)):
            done = subprocess.run([os.path.join(folder, "example")],
                                  stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, check=False,
                                  timeout=60)
            if done.returncode != 0:
                said = (f"{name}: it ended with {done.returncode}: "
                        + done.stdout.decode("utf-8", "replace"))
    if not said and build and SERVES.search(source):
        return run_faults(name, source, build)
    return [said] if said else []


# What the examples of cardea.conf.5 name, and what stands for it here: nothing
# outside of the folder in which they are tried need exist.
STAND_INS = [("/usr/local/bin/shop", "./shop"), ("/srv/shop", "./site"),
             ("user www-data", "user nobody"), ("user shop", "user nobody")]


def conf_folder(folder):
    """Puts into FOLDER what the examples name."""
    for name in ("hello", "env.sh", "shop"):
        path = os.path.join(folder, name)
        with open(path, "w", encoding="utf-8") as f:
            f.write("#!/bin/sh\n")
        os.chmod(path, 0o755)
    os.mkdir(os.path.join(folder, "site"))
    os.mkdir(os.path.join(folder, "conf.d"))


def conf_faults(name, source, build):
    """What `cardea check` has against SOURCE, or against what it prints."""
    for there, here in STAND_INS:
        source = source.replace(there, here)
    if os.geteuid() != 0:  # then `user` is refused, whoever it is
        source = re.sub(r"(\bset )?\buser nobody;?", "", source)
    with tempfile.TemporaryDirectory() as folder:
        conf_folder(folder)
        for _ in range(2):
            path = os.path.join(folder, "cardea.conf")
            with open(path, "w", encoding="utf-8") as f:
                f.write(source)
            done = subprocess.run(
                [os.path.join(os.path.abspath(build), "cardea"), "check", "-v",
                 "-f", path], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, check=False)
            if done.returncode != 0:
                said = done.stderr.decode("utf-8", "replace")
                return [said.replace(path, name) or
                        f"cardea check: {done.returncode}"]
            source = done.stdout.decode("utf-8", "replace")
    return []


def conf_selftest(build):
    return [f"judged wrongly: {text}" for text, want in (
        ("forward http :80 to /run/x\n", False),
        ("forward htpp :80 to /run/x\n", True),
        ("forward http :80 to /run/x\nset user nobody\n", False),
        ("", True)) if bool(conf_faults("page", text, build)) != want]


def check_conf(tap, build):
    page = "man/cardea.conf.5"
    if not build or not os.path.exists(os.path.join(build, "cardea")):
        tap.skip(f"examples of {page}", "no build here")
        return
    tap.case("the check of configurations sees what it should",
             conf_selftest(build))
    found = examples_of(house.text(page), lambda source: True)
    if len(found) < 5:
        tap.case(page, [f"only {len(found)} examples were found"])
    for at, source in found:
        tap.case(f"{page}:{at}", conf_faults(f"{page}:{at}", source, build))


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
    pages = [p for p in house.files(".3", ".7")
             if re.fullmatch(r"man/[^/]+", p)]
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
    check_conf(tap, build)
    if not checked:
        tap.case("there are examples", ["no page of man/ has a program"])
    return tap.done()


if __name__ == "__main__":
    sys.exit(main())
