"""The command line: words, exit codes, messages."""

import os
import re
import shutil
import socket

import pytest

from lib.server import Server


def write(folder, text):
    path = os.path.join(folder, "cardea.conf")
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    return path


def test_version_is_one_line(cli):
    done = cli("version")
    assert done.returncode == 0
    assert re.fullmatch(r"cardea \d+\.\d+\.\d+\S*\n", done.stdout)


def test_help_names_every_verb(cli):
    done = cli("help")
    assert done.returncode == 0
    for verb in ("run", "check", "version", "help"):
        assert re.search(rf"\b{verb}\b", done.stdout)


@pytest.mark.parametrize("words", [["fly"], ["run", "--fast"], ["check", "-x"],
                                   ["run", "-f"]])
def test_wrong_usage_is_64(cli, words):
    done = cli(*words)
    assert (done.returncode, done.stdout) == (64, "")
    assert done.stderr


def test_check_of_a_good_file_is_0(cli, folder):
    path = write(folder, "forward http 127.0.0.1:8080 to /run/app/hello.door\n")
    assert cli("check", "-f", path).returncode == 0


@pytest.mark.parametrize("text, line, column", [
    ("forwrad http :8080 to /x\n", 1, 1),
    ("\n  set body-limt 5M\nforward http :8080 to /x/y\n", 2, 7),
    ("module a { run \"/bin/true\" }\nforward http :8080 to {\n map GET x to a"
     "\n}\n", 3, 10),
    ("forward http :8080 to nobody\n", 1, 23),
    ("forward http :8080 to module nobody\n", 1, 30),
])
def test_check_names_file_line_and_column(cli, folder, text, line, column):
    path = write(folder, text)
    done = cli("check", "-f", path)
    assert done.returncode == 78
    assert done.stderr.startswith(f"{path}:{line}:{column}: ")


def test_check_wants_a_program_that_is_there(cli, folder):
    path = write(folder, 'module a { run "./absent" }\n'
                 "forward http :8080 to a\n")
    done = cli("check", "-f", path)
    assert done.returncode == 78
    assert "absent" in done.stderr


def test_a_wrong_word_names_the_nearest_known_one(cli, folder):
    done = cli("check", "-f", write(folder, "set body-limt 5M\n"))
    assert "body-limit" in done.stderr


def test_check_finds_more_than_one_mistake(cli, folder):
    done = cli("check", "-f", write(folder, "set a b\nset c d\n"))
    assert len(done.stderr.splitlines()) >= 2


def test_run_with_a_broken_file_is_78_and_starts_nothing(cli, folder):
    done = cli("run", "-f", write(folder, "nonsense\n"))
    assert done.returncode == 78
    assert "ready" not in done.stdout + done.stderr


def test_no_such_file_is_said(cli, folder):
    path = os.path.join(folder, "absent.conf")
    done = cli("check", "-f", path)
    assert done.returncode == 78
    assert path in done.stderr


def test_a_user_without_root_is_a_mistake(cli, folder):
    if os.geteuid() == 0:
        pytest.skip("root may start modules as another user")
    path = write(folder, 'module a { run "/bin/true"; user nobody }\n'
                 "forward http :8080 to a\n")
    assert cli("check", "-f", path).returncode == 78


def test_a_given_port_that_is_taken_is_said_and_ends_it(build, folder, cli):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        path = write(folder, 'module a { run "' + build
                     + '/tests/programs/hello" }\n'
                     f"forward http 127.0.0.1:{port} to a\n")
        done = cli("run", "-f", path)
    assert done.returncode == 1
    assert str(port) in done.stdout + done.stderr


def test_the_example_site_is_valid(cli, build, folder):
    """As it stands in a checkout: its programs come from the folder build."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    for name in ("visits", "upload", "status"):
        if not os.path.exists(os.path.join(build, "examples", "site", name)):
            pytest.skip(f"{name} was not built: its library is missing")
    site = os.path.join(folder, "examples", "site")
    shutil.copytree(os.path.join(root, "examples", "site"), site)
    os.symlink(build, os.path.join(folder, "build"))
    done = cli("check", "-f", os.path.join(site, "cardea.conf"))
    assert (done.returncode, done.stderr) == (0, "")


def test_ready_is_said_once(build, folder):
    server = Server(build, folder, """
        module hello { run "$PROGRAMS/hello" }
        forward http 127.0.0.1:$PORT to hello
    """)
    try:
        server.start()
        assert server.request("/").status == 200
        server.stop()
        assert sum("ready url=" in line for line in server.log) == 1
    finally:
        server.destroy()
