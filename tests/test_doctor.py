"""cardea doctor as root, as a plain user, and in a bare chroot: each for real."""

import json
import os
import re
import shutil
import subprocess

import pytest

from conftest import short_folder

CHECKS = ["kernel", "memfd", "pidfd", "futex-waitv", "epoll-pwait2",
          "clone-files", "unix-sockets", "peer-pidfd", "message-pidfd",
          "pass-rights", "landlock", "seccomp", "no-new-privs", "descriptors",
          "backlog", "inotify", "other-users", "user", "dev-null", "proc", "run-folder",
          "tmp", "state-folder", "cardea-exec", "low-ports", "ipv4", "ipv6",
          "cgroup", "module-cgroups", "cpus", "core-files", "clock"]


def doctor(command, *options, **more):
    """(exit status, level by check, mend by check)"""
    done = subprocess.run([*command, "doctor", "--json", *options],
                          stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=60, check=False, **more)
    told = json.loads(done.stdout)
    # Without /proc a sanitizer can neither work nor read its options.
    assert not done.stderr or "LeakSanitizer does not work" in done.stderr
    assert told["ok"] == (done.returncode == 0)
    return (done.returncode,
            {c["check"]: c["level"] for c in told["checks"]},
            {c["check"]: c["mend"] for c in told["checks"]})


def program(build):
    return os.path.join(build, "cardea")


@pytest.fixture
def for_all(build):
    """The program where every user may run it."""
    folder = short_folder()
    for name in ("cardea", "shims/cardea-exec"):
        shutil.copy(os.path.join(build, name), folder)
    yield os.path.join(folder, "cardea")
    shutil.rmtree(folder)


def as_user(command, **more):
    def become():
        os.setgroups([])
        os.setgid(4242)
        os.setuid(4242)
    return doctor(command, preexec_fn=become, cwd="/", **more)


def root_only():
    if os.geteuid() != 0:
        pytest.skip("only root may become another user or change its root")


def test_it_checks_what_it_promises(build):
    status, levels, mends = doctor([program(build)])
    assert sorted(levels) == sorted(CHECKS)
    # This machine builds and serves Cardea: nothing that it needs is missing.
    assert status == 0, levels
    assert set(levels.values()) <= {"ok", "info", "warn"}
    assert all(mends[c] for c in CHECKS if levels[c] == "warn")


def test_its_text_is_a_line_a_check(build, cli):
    done = cli("doctor")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert [l.split()[1] for l in lines[:-1]
            if not l.startswith("      mend: ")] == CHECKS
    assert re.fullmatch(r"0 failed, \d+ warned, \d+ to know, \d+ fine",
                        lines[-1])


def test_a_plain_user_without_a_session(for_all):
    root_only()
    status, levels, mends = as_user([for_all], env={"PATH": "/usr/bin:/bin"})
    assert status == 0, levels
    assert levels["user"] == "ok"
    assert levels["state-folder"] == "warn"
    assert "XDG_STATE_HOME" in mends["state-folder"]
    assert levels["cardea-exec"] == "ok"


def test_a_user_whose_folders_cannot_be_written(for_all):
    root_only()
    status, levels, mends = as_user([for_all], env={
        "HOME": "/nowhere", "XDG_STATE_HOME": "/proc/1"})
    assert (status, levels["state-folder"]) == (0, "warn")
    assert "state-folder PATH" in mends["state-folder"]


@pytest.mark.parametrize("limit", [256, 8000])
def test_a_low_limit_of_descriptors_is_a_warning(build, limit):
    status, levels, mends = doctor(
        ["sh", "-c", f'ulimit -n {limit}; exec "$0" "$@"', program(build)])
    assert (status, levels["descriptors"]) == (0, "warn")
    assert "LimitNOFILE" in mends["descriptors"]


def test_a_missing_shim_is_a_warning(build, folder):
    copy = shutil.copy(program(build), folder)
    status, levels, mends = doctor([copy])
    assert (status, levels["cardea-exec"]) == (0, "warn")
    assert mends["cardea-exec"]


@pytest.fixture
def bare(build):
    """A root with nothing in it but the program and its libraries."""
    root_only()
    folder = short_folder()
    shutil.copy(program(build), folder)
    listed = subprocess.run(["ldd", program(build)], stdin=subprocess.DEVNULL,
                            capture_output=True, text=True, check=True).stdout
    for path in re.findall(r"(/\S+) \(0x", listed):
        os.makedirs(folder + os.path.dirname(path), exist_ok=True)
        shutil.copy(path, folder + path)
    yield folder
    shutil.rmtree(folder)


def in_root(folder, *options):
    return doctor(["/cardea"], *options,
                  preexec_fn=lambda: (os.chroot(folder), os.chdir("/")),
                  env={})


def test_a_bare_root(bare):
    status, levels, mends = in_root(bare)
    assert sorted(levels) == sorted(CHECKS)
    assert status == 1
    assert {c for c in CHECKS if levels[c] == "fail"} == {
        "user", "dev-null", "proc"}
    assert mends["proc"] == "mount -t proc proc /proc"
    assert "/etc/passwd" in mends["user"]
    assert levels["cardea-exec"] == "warn"
    assert os.listdir(bare) and not [n for n in os.listdir(bare)
                                     if n.startswith(".cardea")]


def test_a_bare_root_that_is_mended_bit_by_bit(bare):
    os.makedirs(bare + "/etc")
    with open(bare + "/etc/passwd", "w", encoding="ascii") as f:
        f.write("nobody:x:65534:65534::/:/bin/false\n")
    os.makedirs(bare + "/dev")
    os.mknod(bare + "/dev/null", 0o020666, os.makedev(1, 3))
    levels = in_root(bare)[1]
    assert {c for c in CHECKS if levels[c] == "fail"} == {"proc"}


def test_an_older_kernel_lacks_what_is_newer(build):
    status, levels, _ = doctor([program(build)],
                               env=dict(os.environ, CARDEA_KERNEL="6.1"))
    assert status == 0, levels
    assert {levels[c] for c in ("peer-pidfd", "message-pidfd",
                                "pass-rights")} == {"info"}
