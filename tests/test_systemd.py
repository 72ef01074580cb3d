"""The units that `cardea save` writes, under a systemd that is process 1: as
one of the system, and as one of a user.

These tests add users and units to the machine, so they run where that is wanted
alone: in the virtual machine of `make vm`."""

import os
import pwd
import re
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request

import pytest

from lib import cgroup
from lib.server import alive, free_port, stand_still, stat_of, until

pytestmark = pytest.mark.skipif(
    not os.environ.get("CARDEA_TEST_SYSTEMD"),
    reason="needs systemd as process 1 of a machine that may be changed: "
           "make vm")
SLOW = 60  # seconds, on a machine that is interpreted
USER = "cardea-test"
MB = 1024 * 1024
HEAD = "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'\n"
SCRIPTS = {
    "hello.sh": HEAD + "echo well\n",
    "hog.sh": HEAD + "tail /dev/zero; echo $?\n",
    "forks.sh": HEAD + "n=0\nwhile [ $n -lt 60 ]; do sleep 1000 & "
                       "n=$((n + 1)); done\necho all\n",
}
CONF = """
module hello { exec "%(folder)s/hello.sh" }
module hog { exec "%(folder)s/hog.sh"; limit memory 32M }
module forks { exec "%(folder)s/forks.sh"; limit processes 16 }
forward http 127.0.0.1:%(port)d to {
    map any / to hello
    map any /hog to hog
    map any /forks to forks
    map GET /files to files "%(folder)s/www"
}
"""


def run(*words, check=True, **more):
    done = subprocess.run(words, stdin=subprocess.DEVNULL, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          check=False, timeout=3 * SLOW, **more)
    assert not check or done.returncode == 0, f"{words}\n{done.stdout}"
    return done.stdout


class Unit:
    """cardea.service of one manager, as `cardea save` made it."""

    def __init__(self, kind, program, folder):
        self.kind, self.program, self.folder = kind, program, folder
        self.port = free_port()
        self.seen = 0  # of its journal
        self.prefix, self.words, self.env = [], [], dict(os.environ)
        if kind == "user":
            entry = pwd.getpwnam(USER)
            self.env.update(HOME=entry.pw_dir, USER=USER,
                            XDG_RUNTIME_DIR=f"/run/user/{entry.pw_uid}")
            self.prefix = ["setpriv", f"--reuid={entry.pw_uid}",
                           f"--regid={entry.pw_gid}", "--clear-groups"]
            self.words = ["--user"]
            self.units = f"{entry.pw_dir}/.config/systemd/user"
        else:
            self.units = "/etc/systemd/system"
        self.path = f"{self.units}/cardea.service"
        self.write()

    def write(self):
        os.makedirs(f"{self.folder}/www", exist_ok=True)
        texts = dict(SCRIPTS, **{
            "www/file.txt": "a file\n",
            "cardea.conf": CONF % {"folder": self.folder, "port": self.port}})
        for name, text in texts.items():
            with open(f"{self.folder}/{name}", "w", encoding="utf-8") as f:
                f.write(text)
            os.chmod(f"{self.folder}/{name}", 0o755)
        if self.kind == "user":
            run("chown", "-R", USER, self.folder)

    def as_user(self, *words, **more):
        return run(*self.prefix, *words, env=self.env, cwd=self.folder, **more)

    def save(self):
        """What a person does: tries it, saves it, stops it."""
        with subprocess.Popen(
                [*self.prefix, self.program, "run"], env=self.env,
                cwd=self.folder, stdin=subprocess.DEVNULL, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as server:
            for line in server.stdout:
                if "ready url=" in line:
                    break
            said = self.as_user(self.program, "save", "--unit", self.kind)
            server.terminate()
            rest = server.stdout.read()
        assert server.returncode == 0, rest
        assert "start it with: systemctl " in said
        self.ctl("daemon-reload")

    def ctl(self, *words, **more):
        return self.as_user("systemctl", *self.words, *words, **more)

    def show(self, name):
        return self.ctl("show", "-P", name, "cardea").strip()

    @property
    def pid(self):
        return int(self.show("MainPID"))

    @property
    def group(self):
        return cgroup.mount() + self.show("ControlGroup")

    def journal(self):
        what = "_SYSTEMD_USER_UNIT" if self.kind == "user" else "_SYSTEMD_UNIT"
        return run("journalctl", "--no-pager", "-o", "cat",
                   f"{what}=cardea.service", "_COMM=cardea")[self.seen:]

    def get(self, path="/"):
        """(status, text); status 0: no answer."""
        try:
            with urllib.request.urlopen(
                    f"http://127.0.0.1:{self.port}{path}", timeout=30) as r:
                return r.status, r.read().decode()
        except urllib.error.HTTPError as e:
            return e.code, e.read().decode()
        except OSError:
            return 0, ""

    def serves(self):
        return until(lambda: self.get() == (200, "well\n"), SLOW, "an answer")

    def wait(self, pattern):
        return until(lambda: re.search(pattern, self.journal(), re.M), SLOW,
                     f"a line with {pattern}")

    def pids(self):
        return {int(p) for p in cgroup.below(self.group, "cgroup.procs")}

    def reset(self):
        self.ctl("stop", "cardea", check=False)
        self.ctl("reset-failed", "cardea", check=False)
        self.seen += len(self.journal())

    def remove(self):
        self.reset()
        shutil.rmtree(self.path + ".d", ignore_errors=True)
        if os.path.exists(self.path):
            os.unlink(self.path)
        self.ctl("daemon-reload")

    def drop_in(self, text):
        """TEXT changes the unit; None: no more."""
        if text is None and not os.path.exists(self.path + ".d"):
            return
        shutil.rmtree(self.path + ".d", ignore_errors=True)
        if text is not None:
            os.makedirs(self.path + ".d")
            with open(self.path + ".d/test.conf", "w", encoding="utf-8") as f:
                f.write(text)
        self.ctl("daemon-reload")


@pytest.fixture(scope="module")
def program(build):
    """Cardea where every user may read it."""
    folder = "/opt/cardea-test"
    os.makedirs(folder, mode=0o755)
    for path in [f"{build}/cardea",
                 *(f"{build}/shims/{n}" for n in os.listdir(f"{build}/shims")
                   if re.fullmatch(r"cardea-[a-z]+", n))]:
        shutil.copy(path, folder)
    run("useradd", "--create-home", USER)
    run("loginctl", "enable-linger", USER)
    uid = pwd.getpwnam(USER).pw_uid
    until(lambda: os.path.exists(f"/run/user/{uid}/systemd/private"), SLOW,
          "the user's manager")
    return f"{folder}/cardea"


@pytest.fixture(scope="module", params=["system", "user"])
def saved(request, program):
    folder = f"/srv/cardea-{request.param}"
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder, mode=0o755)
    unit = Unit(request.param, program, folder)
    try:
        unit.save()
        yield unit
    finally:
        unit.remove()


@pytest.fixture
def stopped(saved):
    """The unit, not started, as it was saved."""
    saved.reset()
    yield saved
    print(saved.journal()[-4000:])
    saved.drop_in(None)


@pytest.fixture
def unit(saved):
    """The unit, started."""
    if saved.show("ActiveState") != "active":
        saved.reset()
        saved.ctl("start", "cardea")
    saved.seen += len(saved.journal())
    saved.serves()
    saved.restarts = int(saved.show("NRestarts"))
    yield saved
    print(saved.journal()[-4000:])


def test_the_unit_is_ready_when_it_says_so(stopped):
    unit = stopped
    unit.ctl("start", "cardea")
    assert unit.show("ActiveState") == "active"
    assert unit.show("SubState") == "running"
    assert unit.serves()
    assert unit.get("/files/file.txt") == (200, "a file\n")
    said = unit.journal()
    # Nothing that it could have lacks.
    for event in ("not-isolated", "no-state", "few-descriptors"):
        assert f"event={event}" not in said, said
    own = f"{unit.group}/cardea.{unit.pid}"
    assert cgroup.read(own, "m-hog", "memory.max") == str(32 * MB)
    assert cgroup.read(own, "m-forks", "pids.max") == "16"
    assert str(unit.pid) in cgroup.read(own, "keeper", "cgroup.procs").split()
    print(unit.ctl("status", "--no-pager", "cardea"))
    print(f"{own}/m-hog: memory.max", cgroup.read(own, "m-hog", "memory.max"))
    print(f"{own}/m-forks: pids.max", cgroup.read(own, "m-forks", "pids.max"))


def test_systemd_finds_little_to_say_against_it(unit):
    said = unit.as_user("systemd-analyze", *unit.words, "security",
                        "--no-pager", "cardea")
    score = re.search(r"exposure level for cardea.service: (\S+)", said)
    print(score.group(0))
    assert float(score.group(1)) <= (2.0 if unit.kind == "system" else 7.0)


def test_reload_is_not_offered(unit):
    assert "not applicable" in unit.ctl("reload", "cardea", check=False)
    assert unit.serves()


def test_a_program_over_its_memory_is_ended_alone(unit):
    before, keeper = unit.pids(), unit.pid
    assert unit.get("/hog") == (200, "137\n")
    line = unit.wait(rf"^.*event=out-of-memory module=hog killed=1 "
                     rf"limit={32 * MB}$")
    print(line.group(0))
    assert unit.get() == (200, "well\n")
    # Neither Cardea nor systemd (OOMPolicy=) ended anything else.
    assert unit.pid == keeper
    assert int(unit.show("NRestarts")) == unit.restarts
    assert [p for p in before if not alive(p)] == []
    assert "event=died" not in unit.journal()


def test_a_program_has_no_more_processes_than_it_may(unit):
    keeper = unit.pid
    assert "all" not in unit.get("/forks")[1]
    line = unit.wait(r"^.*event=no-process module=forks refused=\d+ limit=16$")
    print(line.group(0))
    group = f"{unit.group}/cardea.{keeper}/m-forks"
    assert int(cgroup.read(group, "pids.current")) <= 16
    assert unit.get() == (200, "well\n")
    assert unit.pid == keeper
    assert "event=died" not in unit.journal()


def test_a_killed_worker_or_module_is_replaced_by_the_keeper(unit):
    keeper = unit.pid
    others = sorted(p for p in unit.pids() if (stat_of(p) or ("", "", 0))[2]
                    == keeper)
    assert len(others) >= 2 + 3  # workers, shims
    for pid in others:
        os.kill(pid, signal.SIGKILL)
        until(lambda p=pid: not alive(p), what="its end")
        assert unit.serves()
    assert unit.pid == keeper
    assert int(unit.show("NRestarts")) == unit.restarts


@pytest.mark.limit(200)
def test_a_killed_keeper_is_started_again_by_systemd(unit):
    # More often than systemd lets others: nothing may end the service.
    for n in range(1, 7):
        before, keeper = unit.pids(), unit.pid
        os.kill(keeper, signal.SIGKILL)
        until(lambda k=keeper: unit.pid not in (0, k), SLOW, "another keeper")
        assert unit.serves()
        assert not [p for p in before if alive(p)]
        assert int(unit.show("NRestarts")) == unit.restarts + n
    # What the last one had is gone, and bounds hold again.
    assert [d for d in os.listdir(unit.group)
            if d.startswith("cardea.")] == [f"cardea.{unit.pid}"]
    assert cgroup.read(f"{unit.group}/cardea.{unit.pid}", "m-hog",
                       "memory.max") == str(32 * MB)


def test_the_unit_stops_and_leaves_nothing(unit):
    group, pids = unit.group, unit.pids()
    began = time.monotonic()
    unit.ctl("stop", "cardea")
    assert time.monotonic() - began < 30
    assert unit.show("Result") == "success"
    assert unit.show("ExecMainStatus") == "0"
    assert not [p for p in pids if alive(p)]
    assert not os.path.exists(group)


def test_with_exit_type_cgroup_it_is_the_same(stopped):
    """While the workers and modules of a killed keeper end by themselves, its
    unit ends with the last of them."""
    unit = stopped
    unit.drop_in("[Service]\nExitType=cgroup\n")
    unit.ctl("start", "cardea")
    unit.serves()
    before, keeper = unit.pids(), unit.pid
    os.kill(keeper, signal.SIGKILL)
    until(lambda: unit.pid not in (0, keeper), SLOW, "another keeper")
    assert unit.serves()
    assert not [p for p in before if alive(p)]


def test_a_keeper_that_stands_still_is_ended_by_the_watchdog(stopped):
    unit = stopped
    unit.drop_in("[Service]\nWatchdogSec=4\n")
    unit.ctl("start", "cardea")
    unit.serves()
    keeper = unit.pid
    stand_still(keeper)
    until(lambda: unit.pid not in (0, keeper), SLOW, "another keeper")
    assert unit.serves()


def test_a_faulty_configuration_is_not_tried_again(stopped):
    unit = stopped
    with open(f"{unit.folder}/cardea.conf", "a", encoding="utf-8") as f:
        f.write("nonsense\n")
    try:
        unit.ctl("start", "cardea", check=False)
        until(lambda: unit.show("ActiveState") == "failed", SLOW, "its failure")
        assert unit.show("NRestarts") == "0"
        assert re.search(r"cardea\.conf:\d+:\d+: ", unit.journal())
    finally:
        unit.write()
