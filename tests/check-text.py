#!/usr/bin/env python3
"""Small rules about the text of the files: no stub words, no tabs or trailing
blanks in sources, a comment at the head of each C file (but of examples), no
machine paths."""

import re
import sys

from lib import house

# Written in two pieces so that this file does not hold them.
STUB = re.compile(r"\b(" + "|".join(("XX" + "X", "TO" + "DO", "FIX" + "ME"))
                  + r")\b")
PATHS = re.compile(r"(?<![\w.])/(?:ho" + r"me|wo" + r"rk|ro" + r"ot)/[\w.-]+")
# They ask nothing about room; snprintf(), memcpy() and strncat() do.
UNBOUNDED = re.compile(r"\b(strcpy|stpcpy|strcat|v?sprintf|gets)\(")
SOURCES = (".c", ".h", ".y", ".l")
TEXT = SOURCES + (".py", ".sh", ".md", ".build", ".conf", ".1", ".3", ".5",
                  ".7", ".html", ".css")


def faults_of(path, text):
    faults = []

    def fault(at, what):
        faults.append(f"{path}:{text.count(chr(10), 0, at) + 1}: {what}")

    for m in STUB.finditer(text):
        fault(m.start(), f"{m.group(1)} in the text: do it, or say it in an "
              "issue")
    for m in PATHS.finditer(text):
        fault(m.start(), f"a path of somebody's machine: {m.group(0)}")
    if not path.endswith(".md"):
        for m in re.finditer(r"[ \t]+$", text, re.M):
            fault(m.start(), "blanks at the end of the line")
    if path.endswith(SOURCES + (".py", ".sh")):
        for m in re.finditer(r"\t", text):
            fault(m.start(), "a tab")
            break
    if path.endswith((".c", ".h")):
        for m in UNBOUNDED.finditer(text):
            fault(m.start(), f"{m.group(1)}() knows no bound")
    if text and not text.endswith("\n"):
        faults.append(f"{path}: no newline at the end")
    # Examples are shown whole; their page says what they are.
    if path.endswith((".c", ".h")) and not path.startswith("examples/") and \
            not text.lstrip().startswith(("/*", "//")):
        faults.append(f"{path}: no comment at the head that says what it is")
    return faults


def selftest():
    faults = []
    for bad in ("/* a */\n/* " + "TO" + "DO: x */\n", "/* a */\nint x; \n",
                "int x;\n", "/* a */\nint x;",
                "/* a */\nvoid f(void) { str" + "cpy(a, b); }\n"):
        if not faults_of("x.c", bad):
            faults.append(f"let through: {bad!r}")
    if faults_of("x.c", '/* a */\nchar t[] = "/tmp/a.XXXXXX";\n'):
        faults.append("a mkstemp template is no stub")
    return faults


def main():
    tap = house.Tap()
    tap.case("the check sees what it should", selftest())
    for path in house.files(*TEXT) + house.files("Makefile"):
        tap.case(path, faults_of(path, house.text(path)))
    return tap.done()


if __name__ == "__main__":
    sys.exit(main())
