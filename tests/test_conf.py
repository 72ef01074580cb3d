"""cardea check over the samples in tests/conf. A bad one says in its last
lines (`# says line:column: message`, `@` for its folder) what it must be told,
and nothing else."""

import glob
import os
import re
import shutil

import pytest

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "conf")
GOOD = sorted(glob.glob(os.path.join(FOLDER, "good-*.conf")))
BAD = sorted(glob.glob(os.path.join(FOLDER, "bad-*.conf")))


def name_of(path):
    return os.path.basename(path)


def mistakes(done, path):
    """What `check` said of PATH: its lines that name the file."""
    return [line[len(path) + 1:] for line in done.stderr.splitlines()
            if line.startswith(path + ":")]


def test_there_are_samples():
    assert len(GOOD) >= 2 and len(BAD) >= 7


@pytest.mark.parametrize("path", GOOD, ids=name_of)
def test_good(cli, path):
    done = cli("check", "-f", path)
    assert (done.returncode, mistakes(done, path)) == (0, [])


@pytest.mark.parametrize("path", BAD, ids=name_of)
def test_bad(cli, path):
    with open(path, encoding="utf-8") as f:
        says = re.findall(r"^# says (.*)$", f.read(), re.M)
    assert says
    done = cli("check", "-f", path)
    assert mistakes(done, path) == [s.replace("@", FOLDER) for s in says]
    assert done.returncode == 78


def check_text(cli, folder, text):
    path = os.path.join(folder, "x.conf")
    with open(path, "wb") as f:
        f.write(text)
    done = cli("check", "-f", path)
    return done.returncode, mistakes(done, path)


GOOD_LINE = b"forward http :0 to /run/hello.door\n"


@pytest.mark.parametrize("text, says", [
    (b"a\0b", "2:2: NUL byte: this is not a text file"),
    (b"\x1b[0m", "2:1: control byte: remove it"),
    (b"# caf\xe9", "2:6: this byte is not UTF-8: save the file as UTF-8"),
    (b"#\r\n", "2:2: carriage return: end lines with a newline only"),
], ids=["nul", "control", "latin-1", "carriage return"])
def test_bytes(cli, folder, text, says):
    assert check_text(cli, folder, GOOD_LINE + text) == (78, [says])


def test_huge(cli, folder):
    text = GOOD_LINE.ljust(1 << 20, b"\n")
    assert check_text(cli, folder, text) == (0, [])
    assert check_text(cli, folder, text + b"\n") == (
        78, ["1:1: the file is larger than 1 MiB"])


def test_user(cli, folder):
    root = os.geteuid() == 0
    text = GOOD_LINE + b"set user no-such-user-here\n"
    assert check_text(cli, folder, text) == (78, [
        "2:10: no user 'no-such-user-here' on this system" if root else
        "2:10: user needs root: start cardea as root or remove the line"])


def test_relative_paths(cli, folder):
    """They start at the file's folder, wherever the check was started."""
    os.mkdir(os.path.join(folder, "site"))
    shutil.copy("/bin/sh", os.path.join(folder, "program"))
    path = os.path.join(folder, "x.conf")
    with open(path, "w", encoding="utf-8") as f:
        f.write("forward http :0 to { map GET / to files site\n"
                "map GET /p to p }\nmodule p { exec ./program }\n")
    assert cli("check", "-f", path, cwd="/").returncode == 0
    assert cli("check", "-f", "x.conf", cwd=folder).returncode == 0
    os.rename(os.path.join(folder, "site"), os.path.join(folder, "gone"))
    done = cli("check", "-f", path, cwd="/")
    assert done.returncode == 78
    assert mistakes(done, path) == [
        f"1:41: '{folder}/site' cannot be used as a folder: No such file or "
        "directory"]


def test_no_file(cli, folder):
    path = os.path.join(folder, "none.conf")
    done = cli("check", "-f", path)
    assert done.returncode == 78
    assert f"{path}: cannot open: No such file or directory" in done.stderr
