#!/usr/bin/env python3
"""Every manual page is free of warnings (mandoc, else groff), names its own
file in its title, and is installed by man/meson.build."""

import os
import re
import shutil
import subprocess
import sys

from lib import house


def lint_command(path):
    if shutil.which("mandoc"):
        return ["mandoc", "-T", "lint", "-W", "warning", path]
    if shutil.which("groff"):
        return ["groff", "-mandoc", "-ww", "-z", "-T", "utf8", path]
    return None


def faults_of(path):
    done = subprocess.run(lint_command(path), cwd=house.ROOT,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, check=False)
    faults = []
    out = done.stdout.decode("utf-8", "replace").strip()
    if done.returncode != 0 or out:
        faults.append(out or f"status {done.returncode}")
    base, section = os.path.basename(path).rsplit(".", 1)
    text = house.text(path)
    title = re.search(r"^\.(?:Dt|TH)\s+\"?([^\s\"]+)\"?\s+\"?(\w+)", text,
                      re.M)
    if not title:
        if not text.startswith(".so "):
            faults.append("no title line (.Dt or .TH)")
    elif (title.group(1).lower(), title.group(2)) != (base.lower(), section):
        faults.append(f"titled {title.group(1)} {title.group(2)}")
    build = house.text("man/meson.build") if os.path.exists(
        os.path.join(house.ROOT, "man/meson.build")) else ""
    if os.path.basename(path) not in build:
        faults.append("man/meson.build does not install it")
    return faults


VERB = re.compile(r'^VERB\((\w+), "([^"]*)"', re.M)
OPTION = re.compile(r'^OPTION\((\w+), "-+([\w-]+)", "([^"]*)"', re.M)


def table_faults(table, page):
    """What the table of verbs has and cardea(1)'s synopsis lacks, or the other
    way round."""
    synopsis = page.split(".Sh SYNOPSIS")[1].split(".Sh DESCRIPTION")[0]
    there = {}
    for part in synopsis.split(".Nm cardea\n")[1:]:
        verb = re.match(r"\.Cm (\w+)", part).group(1)
        there[verb] = {f.lstrip("-")
                       for f in re.findall(r"^\.Op Fl (-?[\w-]+)", part, re.M)}
    told = {verb: set() for verb, _ in VERB.findall(table)}
    for verb, flag, _ in OPTION.findall(table):
        told[verb].add(flag)
    faults = [f"{v}: cardea(1) does not have it" for v in told if v not in there]
    faults += [f"{v}: verbs.def does not have it" for v in there
               if v not in told]
    for verb in set(told) & set(there):
        faults += [f"{verb}: option {o} is only in one of them"
                   for o in told[verb] ^ there[verb]]
    body = page.split(".Sh DESCRIPTION")[1]
    faults += [f"{v}: cardea(1) does not explain it" for v in told
               if not re.search(rf"^\.It Cm {v}$", body, re.M)]
    return faults


def main():
    tap = house.Tap()
    pages = [p for p in house.files() if re.fullmatch(r"man/[^/]+\.[1-8]", p)]
    if not lint_command(""):
        tap.skip("manual pages", "neither mandoc nor groff here")
        return tap.done()
    for path in pages:
        tap.case(path, faults_of(path))
    table = house.text("src/ctl/verbs.def")
    page = house.text("man/cardea.1")
    tap.case("cardea(1) has the verbs and options of verbs.def",
             table_faults(table, page))
    tap.case("a verb or an option that is missing is seen",
             [] if table_faults(table + '\nVERB(x, "", "")', page) and
             table_faults(table + '\nOPTION(run, "-x", "", A)', page) else
             ["it is not"])
    if not pages:
        tap.case("there are manual pages", ["man/ is empty"])
    return tap.done()


if __name__ == "__main__":
    sys.exit(main())
