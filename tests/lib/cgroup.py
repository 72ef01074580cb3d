"""Control groups of version 2 for tests: where one can be made, and what is in
it."""

import os

import pytest

from lib.server import until

ROOT = os.geteuid() == 0
GUEST = 65533  # a user without a name, whom nothing else runs as
DELEGATED = ("", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads")


def mount():
    """Where the file system is, or None."""
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        for line in f:
            if " - cgroup2 " in line:
                return line.split()[4]
    return None


def read(*path):
    with open(os.path.join(*path), encoding="ascii") as f:
        return f.read().strip()


def write(text, *path):
    with open(os.path.join(*path), "w", encoding="ascii") as f:
        f.write(text)


def group_of(pid):
    """The name of its group, from the top of the file system on."""
    for line in read(f"/proc/{pid}/cgroup").splitlines():
        if line.startswith("0::"):
            return line[3:]
    return None


def bounds(pid, module):
    """Does a group of its own bound MODULE of the keeper PID?"""
    above = (group_of(pid) or "").removesuffix(f"/cardea.{pid}/keeper")
    return bool(mount()) and os.path.exists(
        f"{mount()}{above}/cardea.{pid}/m-{module}/memory.max")


def below(group, name):
    """The words of the files NAME in GROUP and all groups below it."""
    words = []
    for top, _, names in os.walk(group):
        if name in names:
            words += read(top, name).split()
    return words


def _base():
    """A group in which we may make others, and move processes to them: for
    root the first of all, else the one above ours, if it was delegated."""
    top = mount()
    if not top:
        pytest.skip("no control groups of version 2 are mounted here")
    return top if ROOT else os.path.dirname(
        os.path.join(top, group_of("self").lstrip("/")))


def make(name, controllers=()):
    """A new group without processes, which has CONTROLLERS; its path. Skips
    the test where that cannot be."""
    base = _base()
    there = read(base, "cgroup.controllers").split()
    for controller in controllers:
        if controller not in there:
            pytest.skip(f"control groups of version 2 have no {controller} "
                        "here (version 1 has it, or it is not delegated); "
                        "make vm has it")
    group = os.path.join(base, name)
    try:
        for controller in controllers:
            write("+" + controller, base, "cgroup.subtree_control")
        os.mkdir(group)
    except OSError as e:
        pytest.skip(f"no control group can be made: {e}")
    return group


def delegate(group, uid):
    """Gives GROUP to the user UID, as systemd does."""
    for name in DELEGATED:
        os.chown(os.path.join(group, name), uid, uid)


def enter(group):
    """The words of a command that runs another in GROUP."""
    return ["sh", "-c", f'echo 0 >{group}/cgroup.procs && exec "$@"', "sh"]


def remove(group):
    """Ends what is in GROUP, and removes it."""
    write("1", group, "cgroup.kill")
    until(lambda: not below(group, "cgroup.procs"), what="an empty group")
    for top, _, _ in os.walk(group, topdown=False):
        os.rmdir(top)
