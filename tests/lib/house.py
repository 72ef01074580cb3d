"""What the house-rule checks share: the repository's files, and TAP."""

import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))
FOLDERS = ("include", "src", "shims", "bindings", "examples", "bench",
           "tests", "man", "docs", "scripts", "packaging", ".ci")


def files(*suffixes):
    """Paths, relative to the root, of the files that git tracks, or that are new
    in the source folders (a user's own program elsewhere is not ours), with one
    of SUFFIXES."""
    try:
        names = []
        for which in (["-c"], ["-o", "--exclude-standard", "--", *FOLDERS]):
            out = subprocess.run(
                ["git", "ls-files", *which], cwd=ROOT,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, check=True).stdout.decode()
            names += out.splitlines()
    except (OSError, subprocess.CalledProcessError):
        names = [n for n in os.listdir(ROOT)
                 if os.path.isfile(os.path.join(ROOT, n))]
        for folder in FOLDERS:
            for at, inner, found in os.walk(os.path.join(ROOT, folder)):
                inner[:] = [d for d in inner if d != "__pycache__"]
                names += [os.path.relpath(os.path.join(at, n), ROOT)
                          for n in found]
    return sorted({n for n in names
                   if (not suffixes or n.endswith(suffixes))
                   and os.path.isfile(os.path.join(ROOT, n))})


def text(path):
    with open(os.path.join(ROOT, path), encoding="utf-8",
              errors="replace") as f:
        return f.read()


class Tap:
    """Prints `ok N - name` lines; done() prints the plan and gives the exit
    status. Nothing checked is a failure."""

    def __init__(self):
        self.n = self.bad = 0

    def case(self, name, faults):
        """FAULTS: list of sentences; empty means the case passed."""
        self.n += 1
        if faults:
            self.bad += 1
        print(f"{'not ok' if faults else 'ok'} {self.n} - {name}")
        for fault in faults:
            for line in str(fault).splitlines():
                print(f"# {line}")

    def skip(self, name, why):
        self.n += 1
        print(f"ok {self.n} - {name} # SKIP {why}")

    def done(self):
        if self.n == 0:
            self.case("something was checked", ["there was nothing to check"])
        print(f"1..{self.n}")
        sys.stdout.flush()
        return 1 if self.bad else 0
