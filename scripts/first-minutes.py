#!/usr/bin/env python3
"""Records the first minutes with Cardea from a real terminal (tmux) and prints
them as docs/first-minutes.md has them.

    scripts/first-minutes.py BUILD FOLDER >docs/first-minutes.md

BUILD holds the programs, FOLDER is made, and removed at the end. The terminal
has a server of its own, which ends with the recording."""

import os
import re
import shutil
import subprocess
import sys
import time

LIMIT = 30
HEAD = """# The first minutes

Recorded from a real terminal by `scripts/first-minutes.py`; nothing is edited.
The left terminal serves, the right one asks. Lines of the log are cut at the
terminal's edge.
"""
HELLO = """#!/bin/sh
echo "Hello from process $$, you asked for $PATH_INFO"
"""


class Terminal:
    """Two windows of a tmux server of our own."""

    def __init__(self, folder, path):
        self.socket = os.path.join(folder, ".tmux")
        self.environment = {"PATH": path, "HOME": folder, "PS1": "$ ",
                            "TERM": "screen", "SHELL": "/bin/sh",
                            "LANG": "C.UTF-8",
                            "XDG_RUNTIME_DIR": os.path.join(folder, ".run")}
        os.mkdir(self.environment["XDG_RUNTIME_DIR"], 0o700)
        for name in ("serves", "asks"):
            new = ["new-session", "-d", "-s", name, "-x", "100", "-y", "60",
                   "-c", folder, "sh"]
            self.tmux(*new)

    def tmux(self, *words):
        return subprocess.run(["tmux", "-f", "/dev/null", "-S", self.socket,
                               *words], env=self.environment, check=True,
                              stdout=subprocess.PIPE).stdout.decode()

    def screen(self, window):
        text = self.tmux("capture-pane", "-p", "-S", "-", "-t", window)
        return text.rstrip("\n")

    def wait(self, window, text):
        end = time.monotonic() + LIMIT
        while text not in self.screen(window):
            if time.monotonic() > end:
                sys.exit(f"no {text!r} came:\n{self.screen(window)}")
            time.sleep(0.05)

    def type(self, window, line, text):
        """Types LINE and waits until TEXT has come."""
        self.tmux("send-keys", "-t", window, "-l", line)
        self.tmux("send-keys", "-t", window, "Enter")
        self.wait(window, text)

    def url(self):
        """What the server that was started last says."""
        return re.findall(r"ready url=(\S+)", self.screen("serves"))[-1]

    def show(self, window):
        """What the window shows, with the prompts that wait for nothing."""
        lines = self.screen(window).split("\n")
        while lines and lines[-1] in ("$", ""):
            lines.pop()
        while lines and lines[0] == "":
            lines.pop(0)
        print("```\n" + "\n".join(lines) + "\n```\n")
        self.tmux("send-keys", "-t", window, "-R")
        self.tmux("clear-history", "-t", window)
        self.tmux("send-keys", "-t", window, "Enter")


def record(terminal):
    print(HEAD)
    print("## Serve anything\n")
    terminal.type("serves", "cat hello.sh", "PATH_INFO")
    terminal.type("serves", "cardea serve ./hello.sh 2>log", "ready url=")
    url = terminal.url()
    terminal.show("serves")
    terminal.type("asks", f"curl {url}tea", "for /tea")
    terminal.type("asks", "cardea status -f ./hello.sh | head -12", "running")
    terminal.show("asks")
    print("## Keep it\n")
    terminal.type("asks", "cardea save --unit user --output .", "systemctl")
    terminal.type("asks", "cardea check", "cardea.conf: ok")
    terminal.type("asks", "cat cardea.conf", "forward")
    terminal.type("asks", "systemd-analyze security --offline=true "
                  "./cardea.service | tail -1", "exposure")
    terminal.type("asks", "cardea stop -f ./hello.sh", "stopped (")
    terminal.show("asks")
    print("From now on the file is served:\n")
    terminal.type("serves", "cardea run 2>log", "ready url=")
    terminal.type("asks", f"curl {terminal.url()}milk", "for /milk")
    terminal.type("asks", "cardea stop", "stopped (")
    terminal.show("asks")


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    build, folder = (os.path.abspath(word) for word in sys.argv[1:])
    os.mkdir(folder)
    with open(os.path.join(folder, "hello.sh"), "w", encoding="ascii") as f:
        f.write(HELLO)
    os.chmod(os.path.join(folder, "hello.sh"), 0o755)
    terminal = Terminal(folder, build + ":/usr/bin:/bin")
    try:
        record(terminal)
    finally:
        terminal.tmux("kill-server")
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
