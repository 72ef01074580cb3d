#!/usr/bin/env python3
"""Runs everything that can be tested and adds it up.

    scripts/test.py                     all of it (what `make test` does)
    scripts/test.py unit door           only these parts
    scripts/test.py scenario -k hello   the rest goes to pytest
    scripts/test.py --soak 1800         scenarios again and again, so long

Parts: unit (cmocka under ASan and UBSan), door (libdoor's tests under TSan, some
under valgrind), scenario (pytest against the ASan build), rules (tests/check-*),
builds (gcc and clang, debug and release, warnings are errors, unit tests in each;
and a build with the required dependencies alone), kernel (scenarios and libdoor's
tests as on Linux 6.1), coverage (each line of the parsers is reached by a test, or
says why not), fuzz (a minute for each family of parsers).

Two rows of parts run side by side. One begins with those that mostly wait: unit,
scenario, kernel; the other with builds. The rest, which computes, goes to whichever
row is free. Compilers and fuzzers are nice, so that who waits is hardly delayed.

The last line is `N passed, N failed`, with `, N skipped` when some were. Exit
status 1 if anything failed or nothing ran. A program that dies, or that prints
no counts, is a failure: silence never passes. Before it stands how many seconds
each part took. Whole logs stay in the build folders; what failed is printed in
full.
"""

import collections
import glob
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import xml.etree.ElementTree as ET

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ASAN = "build-asan"
TSAN = "build-tsan"
PLAIN = "build-gcc-debug"
BARE = "build-bare"
PARTS = ("unit", "door", "scenario", "rules", "builds", "kernel", "coverage",
         "fuzz")
OLDEST_KERNEL = "6.1"

# Longest time of one runner; a hang must end in a red line, not in silence.
BUILD_LIMIT = 3600
UNIT_LIMIT = 1800
SCENARIO_LIMIT = 2400
RULE_LIMIT = 900
FUZZ_LIMIT = 1500
COVERAGE_LIMIT = 1800
# Of programs that wait, several can share a CPU; and on a busy machine each has
# its own limit so many times.
AT_ONCE = 2 * (os.cpu_count() or 1)
UNIT_PATIENCE = 4

ASAN_ENV = {
    "ASAN_OPTIONS": "abort_on_error=0:exitcode=99:detect_leaks=1:"
                    "detect_stack_use_after_return=1:strict_string_checks=1",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
}
TSAN_ENV = {"TSAN_OPTIONS": "exitcode=66:halt_on_error=0:second_deadlock_stack=1"}


class Sum:
    """What was counted so far."""

    def __init__(self):
        self.passed = self.failed = self.skipped = 0
        self.lock = threading.Lock()

    def add(self, passed, failed, skipped=0):
        with self.lock:
            self.passed += passed
            self.failed += failed
            self.skipped += skipped

    def add_sum(self, other):
        self.add(other.passed, other.failed, other.skipped)

    def line(self):
        text = f"{self.passed} passed, {self.failed} failed"
        if self.skipped:
            text += f", {self.skipped} skipped"
        return text


def say(text):
    sys.stdout.write(text + "\n")  # in one piece: two rows speak
    sys.stdout.flush()


def fail(total, name, why, log=""):
    total.add(0, 1)
    say(f"FAILED {name}: {why}")
    if log:
        say(log.rstrip())


RUNNING = set()  # leaders of process groups
OVER = threading.Event()


def end_all():
    OVER.set()
    for pid in list(RUNNING):
        try:
            os.killpg(pid, signal.SIGTERM)
        except OSError:
            pass


def put_session_behind(pid):
    """As nice(1), which a bare PATH has not. Where the kernel shares the CPUs
    among sessions, that counts only within one: PID's own comes behind others."""
    try:
        os.setpriority(os.PRIO_PROCESS, pid, 10)
        with open(f"/proc/{pid}/autogroup", "w", encoding="ascii") as f:
            f.write("10")
    except OSError:
        pass


def run(command, limit, env=None, log=None, behind=False):
    """Runs COMMAND without input in its own process group; BEHIND: it gets less
    of the CPUs than others. (status, output); status None: it ran longer than
    LIMIT seconds and was ended."""
    if OVER.is_set():
        sys.exit()  # ends this thread
    full = dict(os.environ)
    full.update(env or {})
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                             env=full, cwd=ROOT, start_new_session=True)
    RUNNING.add(child.pid)
    if behind:
        put_session_behind(child.pid)
    try:
        out, _ = child.communicate(timeout=limit)
        status = child.returncode
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        out, _ = child.communicate()
        status = None
    RUNNING.discard(child.pid)
    text = out.decode("utf-8", "replace")
    if log:
        with open(os.path.join(ROOT, log), "w", encoding="utf-8") as f:
            f.write(text)
    return status, text


def build(total, folder, options, env=None, behind=False):
    """Configures FOLDER and builds all, but for the TSan one, of which little
    is needed. True: it is there."""
    status, out = run(["scripts/configure.sh", folder] + options, BUILD_LIMIT,
                      env=env, behind=behind)
    if status != 0:
        fail(total, folder, "meson setup did not succeed", out)
        return False
    if folder != TSAN:
        status, out = run(["ninja", "-C", folder], BUILD_LIMIT, env=env,
                          log=f"{folder}/build-log.txt", behind=behind)
        if status != 0:
            fail(total, folder, "the build failed", out)
            return False
    return True


TAP_LINE = re.compile(r"^(ok|not ok)\b[ \t]*\d*[ \t]*-?[ \t]*(.*)$", re.M)
TAP_PLAN = re.compile(r"^1\.\.(\d+)\s*$", re.M)


def count_tap(text):
    """(passed, failed, skipped, planned) of TAP output. Several plans (several
    groups in one program) are added."""
    passed = failed = skipped = 0
    for word, rest in TAP_LINE.findall(text):
        if re.search(r"#\s*skip\b", rest, re.I):
            skipped += 1
        elif word == "ok":
            passed += 1
        else:
            failed += 1
    planned = sum(int(n) for n in TAP_PLAN.findall(text))
    return passed, failed, skipped, planned


UNITTEST = re.compile(r"^Ran (\d+) tests? in ", re.M)
UNITTEST_BAD = re.compile(r"\b(failures|errors|skipped|unexpected successes)"
                          r"=(\d+)")
REPLAYED = re.compile(r"^\S+: (\d+) files$", re.M)


def count(text):
    """The same of any runner's output that we know: TAP, Python's unittest, or
    a replayed corpus (`folder: N files`; the folder is the case)."""
    counts = count_tap(text)
    if any(counts):
        return counts
    ran = UNITTEST.search(text)
    if ran:
        bad = {k: int(n) for k, n in
               UNITTEST_BAD.findall(text[ran.end():])}
        skipped = bad.pop("skipped", 0)
        failed = sum(bad.values())
        return int(ran.group(1)) - failed - skipped, failed, skipped, 0
    return sum(int(n) > 0 for n in REPLAYED.findall(text)), 0, 0, 0


def judge(total, name, status, out, quiet=False):
    """Adds up one program by its own counts. STATUS None: it ran too long.
    QUIET: what passed is not said."""
    passed, failed, skipped, planned = count(out)
    ran = passed + failed + skipped
    if status == 77 and ran == 0:
        total.add(0, 0, 1)
        say(f"skipped {name}")
        return
    total.add(passed, failed, skipped)
    if status is None:
        fail(total, name, "ran too long and was ended", out)
    elif ran == 0:
        fail(total, name, f"printed no counts (status {status})", out)
    elif planned > ran:
        fail(total, name, f"only {ran} of {planned} cases ran", out)
    elif failed:
        say(f"FAILED {name}: {failed} of {ran} cases")
        say("\n".join(line for line in out.rstrip().splitlines()
                      if not line.startswith("ok ")))
    elif status != 0:
        fail(total, name, f"status {status} though no case failed", out)
    elif not quiet:
        say(f"ok {name}: {passed}" + (f" ({skipped} skipped)" if skipped else ""))


def meson_logs(folder):
    """Where `meson test` puts its records: with a wrapper, the name has the
    wrapper's."""
    return glob.glob(os.path.join(ROOT, folder, "meson-logs", "testlog*.json"))


def meson_log(folder):
    """The records of the last `meson test`."""
    records = []
    for path in meson_logs(folder):
        with open(path, encoding="utf-8") as f:
            records += [json.loads(line) for line in f if line.strip()]
    return records


def meson_tests(whole, folder, extra, env, quiet=False):
    for log in meson_logs(folder):
        os.unlink(log)
    env = dict(env, CMOCKA_MESSAGE_OUTPUT="TAP")
    status, out = run(["meson", "test", "-C", folder, "--print-errorlogs",
                       f"--num-processes={AT_ONCE}",
                       f"--timeout-multiplier={UNIT_PATIENCE}"]
                      + extra, UNIT_LIMIT, env=env,
                      log=f"{folder}/unit-log.txt")
    records = meson_log(folder)
    if not records:
        fail(whole, folder, f"meson test ran nothing (status {status})", out)
        return
    total = Sum()
    for r in records:
        text = (r.get("stdout") or "") + (r.get("stderr") or "")
        result = r.get("result", "")
        code = None if result == "TIMEOUT" else r.get("returncode", 1)
        if result in ("FAIL", "ERROR", "INTERRUPT", "UNEXPECTEDPASS") and code == 0:
            code = 1
        judge(total, f"{folder}/{r.get('name', '?').split(' / ')[-1]}", code,
              text, quiet)
    if status != 0 and not total.failed:
        fail(total, folder, f"meson test ended with {status}", out)
    whole.add_sum(total)


def tsan_wrapper():
    """TSan cannot live with the widest address randomization of new kernels."""
    try:
        with open("/proc/sys/vm/mmap_rnd_bits", encoding="ascii") as f:
            bits = int(f.read())
    except (OSError, ValueError):
        return []
    if bits <= 28:
        return []
    if subprocess.run(["setarch", "-R", "true"], stdin=subprocess.DEVNULL,
                      stderr=subprocess.DEVNULL, check=False).returncode != 0:
        return []
    return ["--wrapper", "setarch -R"]


def find_pytest():
    """A Python that has pytest: the one in PATH may be another's."""
    for python in (os.environ.get("PYTHON"), "/usr/bin/python3", "python3",
                   sys.executable):
        if not python:
            continue
        try:
            done = subprocess.run([python, "-c", "import pytest"],
                                  stdin=subprocess.DEVNULL,
                                  stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL, check=False)
        except OSError:
            continue
        if done.returncode == 0:
            return python
    return None


def count_junit(path):
    """(passed, failed, skipped) of a JUnit file, or None: not readable."""
    try:
        root = ET.parse(path).getroot()
    except (OSError, ET.ParseError):
        return None
    passed = failed = skipped = 0
    for case in root.iter("testcase"):
        kinds = {child.tag for child in case}
        if kinds & {"failure", "error"}:
            failed += 1
        elif "skipped" in kinds:
            skipped += 1
        else:
            passed += 1
    return passed, failed, skipped


# Files of tests that load or time the whole machine: they run by themselves, when
# the others are done. Of the others the longest begin first.
ALONE = ("many", "hostile", "attacks", "clients", "runner")
LONGEST = ("inject", "faults_table", "site", "freeze", "faults_full", "tcp",
           "doctor", "control", "faults", "conf_files")


def scenario_files(left_out=()):
    """(those that run side by side, those that run alone), as paths."""
    names = [re.sub(r"^.*test_|\.py$", "", path)
             for path in glob.glob(os.path.join(ROOT, "tests", "test_*.py"))]
    names = sorted(set(names) - set(left_out),
                   key=lambda n: (LONGEST + (n,)).index(n))
    paths = {n: f"tests/test_{n}.py" for n in names}
    return ([paths[n] for n in names if n not in ALONE],
            [paths[n] for n in names if n in ALONE])


class Scenarios:
    """Files of tests against one build, each by a pytest of its own, several at
    once."""

    def __init__(self, python, extra, folder, more_env, limit):
        self.python, self.extra, self.folder = python, extra, folder
        self.env = dict(ASAN_ENV, CARDEA_BUILD=os.path.join(ROOT, folder),
                        PYTHONDONTWRITEBYTECODE="1", **(more_env or {}))
        self.end = time.monotonic() + limit
        self.total = Sum()
        self.lock = threading.Lock()
        self.seconds = {}

    def one(self, path):
        """Adds up one file; what it printed is said only if it failed."""
        started = time.monotonic()
        log = re.sub(r"\W+", "-", path)
        report = os.path.join(ROOT, self.folder, "pytest", log + ".xml")
        if os.path.exists(report):
            os.unlink(report)
        status, out = run([self.python, "-m", "pytest", path, "-q", "-ra",
                           "-p", "no:cacheprovider", "--durations=10",
                           f"--junitxml={report}"] + self.extra,
                          max(1, self.end - started), env=self.env,
                          log=f"{self.folder}/pytest/{log}.txt")
        counts = count_junit(report)
        with self.lock:
            self.seconds[path] = time.monotonic() - started
            if status == 5 and not sum(counts or (0,)):
                return  # the words chose none of its tests
            if counts is None or sum(counts) == 0:
                fail(self.total, path, f"pytest counted nothing (status "
                     f"{status})", out)
                return
            self.total.add(*counts)
            if status is None:
                fail(self.total, path, "not done when the time was over", out)
            elif counts[1]:
                say(out.rstrip())
            elif status != 0:
                fail(self.total, path, f"pytest ended with {status}", out)

    def many(self, paths, at_once):
        left = list(paths)

        def work():
            while True:
                with self.lock:
                    if not left:
                        return
                    path = left.pop(0)
                self.one(path)

        workers = [threading.Thread(target=work) for _ in range(at_once)]
        for w in workers:
            w.start()
        for w in workers:
            w.join()


def scenarios(total, extra, folder=ASAN, more_env=None, name="scenarios",
              which=None, limit=SCENARIO_LIMIT):
    """WHICH: (files that run side by side, files that run alone)."""
    python = find_pytest()
    if not python:
        fail(total, name, "no Python here can import pytest")
        return
    os.makedirs(os.path.join(ROOT, folder, "pytest"), exist_ok=True)
    together, alone = which or scenario_files()
    all_of_them = Scenarios(python, extra, folder, more_env, limit)
    all_of_them.many(together, min(AT_ONCE, 4))
    all_of_them.many(alone, 1)
    got = all_of_them.total
    total.add(got.passed, got.failed, got.skipped)
    slowest = sorted(all_of_them.seconds.items(), key=lambda i: -i[1])[:8]
    say(f"{'FAILED' if got.failed else 'ok'} {name}: {got.line()}; slowest: "
        + ", ".join(f"{os.path.basename(p)} {s:.0f} s" for p, s in slowest))
    if got.passed + got.failed + got.skipped == 0:
        fail(total, name, "no test ran")


def rules(total):
    folder = os.path.join(ROOT, "tests")
    names = sorted(n for n in os.listdir(folder)
                   if re.fullmatch(r"check-[a-z-]+\.(py|sh)", n))
    if not names:
        fail(total, "rules", "tests/check-* is empty")
    for name in names:
        command = [f"tests/{name}"]
        if name.endswith(".py"):
            command.insert(0, sys.executable)
        if name in ("check-globals.py", "check-warnings.py",
                    "check-conformance.py"):
            command += ["--build", ASAN]
        status, out = run(command, RULE_LIMIT, behind=True)
        judge(total, name, status, out)


def matrix(whole, first_done):
    """Two compilers, with and without the optimizer. FIRST_DONE is set when PLAIN
    is there and tested, or is not to be had."""
    for compiler in ("gcc", "clang"):
        for kind in ("debug", "release"):
            started = time.monotonic()
            folder = f"build-{compiler}-{kind}"
            env = {"CC": compiler}
            options = [f"--buildtype={kind}", "-Dwerror=true",
                       "-Dtests=enabled"]
            total = Sum()
            # The first row waits for the first.
            if build(total, folder, options, env, folder != PLAIN):
                meson_tests(total, folder, ["--no-suite", "bench",
                                            "--no-suite", "conformance"], env,
                            quiet=True)
            first_done.set()
            if not total.failed:
                say(f"ok {folder}: {total.passed} in "
                    f"{time.monotonic() - started:.0f} s")
            whole.add_sum(total)


# What README asks for, and what these need in turn.
BARE_TOOLS = ("gcc", "cc", "as", "ld", "ar", "nm", "strip", "meson", "ninja",
              "bison", "m4", "flex", "pkg-config", "sh", "cat", "mkdir", "rm",
              "mktemp", "env", "uname", "dirname", "true")


def bare(total):
    """A build where nothing optional can be found: no library by pkg-config, no
    tool in PATH but the required ones."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as tools:
        for name in BARE_TOOLS:
            found = shutil.which(name)
            if found:
                os.symlink(os.path.realpath(found) if name != "cc" else found,
                           os.path.join(tools, name))
        os.symlink(sys.executable, os.path.join(tools, "python3"))
        env = {"PATH": tools, "PKG_CONFIG_LIBDIR": "/nonexistent", "CC": "gcc",
               "PKG_CONFIG_PATH": ""}
        # Made anew: what Meson once found it would remember.
        shutil.rmtree(os.path.join(ROOT, BARE), ignore_errors=True)
        if not build(total, BARE, ["--buildtype=debug", "-Dwerror=true"], env,
                     True):
            return
    with open(os.path.join(ROOT, BARE, "meson-info",
                           "intro-dependencies.json"), encoding="utf-8") as f:
        names = sorted(d["name"] for d in json.load(f))
    if names != ["threads"]:
        fail(total, BARE, f"it uses more than is required: {names}")
        return
    total.add(1, 0)
    say(f"ok {BARE}: built in {time.monotonic() - started:.0f} s")
    scenarios(total, [], BARE, name=f"{BARE}'s scenarios",
              which=(["tests/test_cli.py", "tests/test_exec.py"], []))


def kernel(total):
    """The scenarios and libdoor's tests once more, as on the oldest kernel. What
    attacks for a fixed time, judges speed, or tries one fault again and again
    asks nothing of a kernel that the others do not, and is left out."""
    if not build(total, PLAIN, PLAIN_OPTIONS, {"CC": "gcc"}):
        return
    hide = os.path.join(ROOT, PLAIN, "src", "base", "hide-kernel")
    meson_tests(total, PLAIN, ["--suite", "door", "--suite", "conformance",
                               "--wrapper",
                               f"{hide} {OLDEST_KERNEL}"], {}, quiet=True)
    scenarios(total, ["-k", "not starve_nobody and not thousands_of_mixed and "
                      "not browser and not the_pages"], PLAIN,
              {"CARDEA_KERNEL": OLDEST_KERNEL,
               "CARDEA_PLAIN": os.path.join(ROOT, PLAIN)},
              name=f"scenarios as on Linux {OLDEST_KERNEL}",
              which=scenario_files(("hostile", "inject", "faults_table",
                                    "many")))


def coverage(total):
    status, out = run([sys.executable, "scripts/coverage.py", "--tap"],
                      COVERAGE_LIMIT, behind=True)
    judge(total, "coverage", status, out)


def fuzz(total):
    """The counts are the point: they are shown also when all is well."""
    status, out = run(["scripts/fuzz.sh", "--ci"], FUZZ_LIMIT, behind=True)
    say("\n".join(line for line in out.splitlines()
                  if line.startswith("ok ")))
    judge(total, "fuzz", status, out)


def memcheck(total, names):
    """The conformance programs of NAMES under valgrind, which sees what no
    sanitizer does: reads of what was never written."""
    if shutil.which("valgrind") is None:
        total.add(0, 0, len(names))
        say("skipped memcheck: valgrind is not here (scripts/setup.sh test)")
        return
    if not build(total, PLAIN, PLAIN_OPTIONS, {"CC": "gcc"}):
        return
    for name in names:
        program = os.path.join(ROOT, PLAIN, "tests", "conformance",
                               f"conformance-{name}")
        status, out = run(["valgrind", "-q", "--error-exitcode=9", program],
                          UNIT_LIMIT, behind=True)
        judge(total, f"memcheck of {name}", status, out)


def exact(total, seconds):
    """Kills a worker at any instruction, for SECONDS (docs/heirs.md)."""
    program = os.path.join(ROOT, ASAN, "src", "front", "test-front-exact")
    if not os.path.exists(program):
        total.add(0, 0, 1)
        say("skipped exact: x86-64 only")
        return
    # The seed is printed, and repeats the run.
    status, out = run([program, str(seconds)], seconds + UNIT_LIMIT,
                      {"CMOCKA_MESSAGE_OUTPUT": "TAP"})
    say("\n".join(re.findall("^# .* kills .*", out, re.M)))
    judge(total, "exact", status, out)


def soak(seconds):
    """Memcheck, then kills and scenarios until the time is over or something fails."""
    total = Sum()
    memcheck(total, sorted(
        os.path.basename(path)[5:-2]
        for path in glob.glob("tests/conformance/test-*.c")))
    if not build(total, ASAN, ASAN_OPTIONS):
        return total
    end = time.monotonic() + seconds
    turn = 0
    while not total.failed and (turn == 0 or time.monotonic() < end):
        turn += 1
        say(f"turn {turn}, {max(0, int(end - time.monotonic()))} s left")
        # The last turn may start just before the end: bounded all the same.
        # The first fails every system call that there is, not a sample.
        os.environ["CARDEA_INJECT"] = "all" if turn == 1 else ""
        os.environ["RELOADS"] = "1000" if turn == 1 else "50"
        exact(total, 120)
        scenarios(total, [], limit=SCENARIO_LIMIT + (3000 if turn == 1 else 0))
    return total


# -O1, as the sanitizers' makers advise: -O2 takes twice the time to build.
ASAN_OPTIONS = ["-Db_sanitize=address,undefined", "-Db_lundef=false",
                "-Doptimization=1", "-Ddebug=true", "-Dtests=enabled"]
PLAIN_OPTIONS = ["--buildtype=debug", "-Dwerror=true", "-Dtests=enabled"]
TSAN_OPTIONS = ["-Db_sanitize=thread", "-Db_lundef=false", "-Doptimization=1",
                "-Ddebug=true", "-Dtests=enabled"]


class Parts:
    """What main() was asked for, in two rows. Each part waits for what it needs
    of the others."""

    def __init__(self, names, words):
        self.names, self.words = names, words
        # For whichever row is free; the longest first, the last one ends soon.
        self.rest = collections.deque(
            part for part in (("fuzz", fuzz), ("coverage", coverage),
                              ("rules", rules), ("door", door),
                              ("bare", bare)) if self.is_asked(part[0]))
        self.total = Sum()
        self.seconds = {}
        self.built = False
        self.units_done = threading.Event()  # build-asan is there, or is not
        self.plain_done = threading.Event()

    def timed(self, name, step, *words):
        started = time.monotonic()
        result = step(self.total, *words)
        self.seconds[name] = time.monotonic() - started
        return result

    def first_row(self):
        try:
            if set(self.names) & {"unit", "scenario", "rules"}:
                self.built = self.timed("build", build, ASAN, ASAN_OPTIONS)
            if "unit" in self.names and self.built:
                self.timed("unit", meson_tests, ASAN, [], ASAN_ENV)
        finally:
            self.units_done.set()
        self.plain_done.wait()
        if "scenario" in self.names and self.built:
            plain = ({"CARDEA_PLAIN": os.path.join(ROOT, PLAIN)}
                     if "builds" in self.names else {})
            self.timed("scenario", scenarios, self.words, ASAN, plain)
        if "kernel" in self.names:
            self.timed("kernel", kernel)
        self.take_rest()

    def second_row(self):
        try:
            if "builds" in self.names:
                self.timed("builds", matrix, self.plain_done)
        finally:
            self.plain_done.set()
        self.take_rest()

    def take_rest(self):
        self.units_done.wait()  # rules look at what was built
        while True:
            try:
                name, step = self.rest.popleft()
            except IndexError:
                return
            self.timed(name, step)

    def is_asked(self, name):
        return ("builds" if name == "bare" else name) in self.names

    def row(self, step):
        """One row; what goes wrong in this program itself is a failure too."""
        try:
            step()
        except Exception:  # the other row goes on
            fail(self.total, step.__name__, "the runner failed",
                 traceback.format_exc())

    def run(self):
        second = threading.Thread(target=self.row, args=(self.second_row,),
                                  daemon=True)
        second.start()
        self.row(self.first_row)
        second.join()


def door(total):
    if build(total, TSAN, TSAN_OPTIONS, behind=True):
        meson_tests(total, TSAN, ["--suite", "door", "--suite", "races"]
                    + tsan_wrapper(), TSAN_ENV)
    memcheck(total, ["unref"])  # all of them: make soak


def main(arguments):
    os.chdir(ROOT)
    if arguments[:1] == ["--soak"]:
        total = soak(int(arguments[1]) if len(arguments) > 1 else 1800)
        say(total.line())
        return 0 if total.passed and not total.failed else 1
    parts = []
    while arguments and arguments[0] in PARTS:
        parts.append(arguments.pop(0))
    if arguments and parts != ["scenario"]:
        say(__doc__)
        return 64
    started = time.monotonic()
    both = Parts(parts or list(PARTS), arguments)
    both.run()
    total = both.total
    if total.passed + total.failed + total.skipped == 0:
        fail(total, "suite", "nothing ran")
    say("seconds: " + ", ".join(f"{n} {s:.0f}" for n, s in both.seconds.items())
        + f"; {time.monotonic() - started:.0f} in all, two rows side by side")
    say(total.line())
    return 1 if total.failed or not total.passed else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        end_all()
        sys.exit(130)
