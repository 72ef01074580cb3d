"""Completion in real shells: what the table of verbs offers, they offer."""

import os
import pty
import re
import select
import shutil
import signal
import subprocess

import pytest

from lib.server import until


def place_of(build, name):
    return os.path.join(build, "src", "ctl", name)


def bash(build, folder, *words):
    """What bash offers for the last of WORDS behind `cardea`."""
    quoted = " ".join("'" + w.replace("'", "'\\''") + "'"
                      for w in ("cardea",) + words)
    script = (f". '{place_of(build, 'cardea')}'\n"
              f"COMP_WORDS=({quoted})\n"
              f"COMP_CWORD={len(words)}\n"
              "_cardea cardea\n"
              'printf "%s\\n" "${COMPREPLY[@]}"\n')
    done = subprocess.run(["bash", "--norc", "-u", "-c", script], cwd=folder,
                          stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=30, check=True)
    assert not done.stderr
    return [line for line in done.stdout.splitlines() if line]


@pytest.fixture
def with_files(folder):
    for name in ("site.conf", "two words.conf"):
        with open(os.path.join(folder, name), "w", encoding="ascii"):
            pass
    return folder


@pytest.mark.parametrize("words, offered", [
    (["st"], ["status", "stop"]),
    (["chec"], ["check"]),
    ([""], ["run", "serve", "save", "check", "status", "top", "why", "log", "metrics", "reload", "stop", "call", "chaos",
            "doors", "doctor", "version", "help", "--help", "--version"]),
    (["status", "--"], ["--json", "--modules", "--help"]),
    (["stop", "--n"], ["--now"]),
    (["stop", "--wait", ""], []),
    (["run", "-f", "si"], ["site.conf"]),
    (["run", "-f", "two"], ["two words.conf"]),
    (["call", "hello", "GET", "/x", "s"], ["site.conf"]),
    (["doctor", ""], ["--json", "--help"]),
    (["help", "ver"], ["version"]),
    (["chaos", "wo"], ["worker"]),
    (["frob", ""], []),
])
def test_bash_offers(build, with_files, words, offered):
    assert bash(build, with_files, *words) == offered


def test_bash_offers_every_option_that_help_names(build, folder, cli):
    for verb in re.findall(r"^  (\w+) ", cli("help").stdout, re.M):
        flags = re.findall(r"^  (--?\w+)", cli("help", verb).stdout, re.M)
        assert bash(build, folder, verb, "-") == flags + ["--help"]


@pytest.mark.parametrize("typed, offered", [
    ("st", {"status", "stop"}),
    ("status --", {"--json", "--modules", "--help"}),
    ("stop --", {"--now", "--wait", "--help"}),
    ("help doc", {"doctor"}),
    ("run -f si", {"site.conf"}),
])
def test_zsh_offers(build, with_files, typed, offered):
    """In a terminal of zsh's own, where TAB is pressed."""
    if not shutil.which("zsh"):
        pytest.skip("zsh is not here")
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(with_files)
        os.execvpe("zsh", ["zsh", "-f", "-i"], dict(os.environ, TERM="dumb"))
    seen = []

    def has(*words):
        """Have all of WORDS been shown since the last mark?"""
        while select.select([terminal], [], [], 0)[0]:
            seen.append(os.read(terminal, 65536).decode("utf-8", "replace"))
        return set(words) <= set(re.findall(r"[\w.-]+", "".join(seen)))

    try:
        os.write(terminal, (
            f"PS1= RPS1=; fpath=({os.path.dirname(place_of(build, '_cardea'))}"
            " $fpath); autoload -Uz compinit; compinit -u -D; setopt no_beep "
            'no_list_ambiguous; print REA""DY\n').encode())
        until(lambda: has("READY"), 30, "the shell")
        seen.clear()
        os.write(terminal, f"cardea {typed}\t".encode())
        until(lambda: has(*offered), 30, f"{offered}")
    finally:
        os.close(terminal)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
