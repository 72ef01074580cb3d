#!/usr/bin/env python3
"""No source file over 1,200 lines; no C function over 100, unless a comment
`/* long: reason */` stands in it or directly above. With --top: prints the
largest of both instead."""

import re
import sys

from lib import house

FILE_LINES = 1200
FUNCTION_LINES = 100
LONG = re.compile(r"/\* long: \S")
NAME = re.compile(r"([A-Za-z_]\w*)\s*\(")


def functions(text):
    """Yields (name, first line, number of lines, its text) of each function.
    The house style puts a function's braces alone in column 0, so no more
    than that has to be understood."""
    lines = text.splitlines()
    i = 0
    while i < len(lines):
        if lines[i] != "{":
            i += 1
            continue
        head = i
        while head > 0 and lines[head - 1].strip() and \
                not lines[head - 1].startswith(("}", "#")):
            head -= 1
        end = i
        while end < len(lines) - 1 and not lines[end].startswith("}"):
            end += 1
        above = "\n".join(lines[head:i])
        plain = re.sub(r"/\*.*?\*/", "", above, flags=re.S)
        name = NAME.search(plain)
        # Counted from the brace to its mate, both included.
        yield (name.group(1) if name else "?", head + 1, end - i + 1,
               "\n".join(lines[head:end + 1]))
        i = end + 1


def faults_of(path, text):
    faults = []
    n = text.count("\n")
    if n > FILE_LINES:
        faults.append(f"{path}: {n} lines, more than {FILE_LINES}")
    if path.endswith((".c", ".h")):
        for name, line, length, body in functions(text):
            if length > FUNCTION_LINES and not LONG.search(body):
                faults.append(f"{path}:{line}: {name}() has {length} lines, "
                              f"more than {FUNCTION_LINES}")
    return faults


def selftest():
    body = "    x();\n" * 99
    good = "int\nf(void)\n{\n" + body[:98 * 9] + "}\n"
    bad = "int\nf(void)\n{\n" + body + "}\n"
    said = "int\nf(void)\n{\n    /* long: a table */\n" + body + "}\n"
    faults = []
    if faults_of("x.c", good):
        faults.append("100 lines were refused")
    if not faults_of("x.c", bad):
        faults.append("101 lines were let through")
    if faults_of("x.c", said):
        faults.append("a given reason was not heard")
    if not faults_of("x.py", "\n" * 1201):
        faults.append("1201 lines of a file were let through")
    return faults


def print_top(paths):
    sizes = [(house.text(p).count("\n"), p) for p in paths]
    for n, path in sorted(sizes, reverse=True)[:10]:
        print(f"{n:6} {path}")
    every = [(length, name, path, line) for path in paths
             if path.endswith((".c", ".h"))
             for name, line, length, _ in functions(house.text(path))]
    for length, name, path, line in sorted(every, reverse=True)[:10]:
        print(f"{length:6} {name}() {path}:{line}")


def main():
    paths = house.files(".c", ".h", ".y", ".l", ".py", ".sh")
    if sys.argv[1:] == ["--top"]:
        print_top(paths)
        return 0
    tap = house.Tap()
    tap.case("the check sees what it should", selftest())
    for path in paths:
        tap.case(path, faults_of(path, house.text(path)))
    return tap.done()


if __name__ == "__main__":
    sys.exit(main())
