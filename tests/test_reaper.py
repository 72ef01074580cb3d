"""The keeper dies, and its reaper starts another: who connects meanwhile is not
turned away, and what was begun is finished. See docs/heirs.md."""

import os
import re
import shutil
import signal
import socket
import subprocess
import threading

import pytest

from lib import control
from lib.server import READY, Server, alive, stand_still, stat_of, until

CONF = """
set workers 2
set grace 3s
module hello { run "$PROGRAMS/hello" }
forward http 127.0.0.1:$PORT to {
    map GET / to hello
    map GET /www to files "$DIR/www"
}
"""
GUEST = 424243
BIG = 64 << 20


@pytest.fixture
def site(cardea, folder):
    os.makedirs(os.path.join(folder, "www"))
    with open(os.path.join(folder, "www", "page"), "w", encoding="ascii") as f:
        f.write("page")
    with open(os.path.join(folder, "www", "big"), "wb") as f:
        f.truncate(BIG)
    return cardea(CONF)


def kill_keeper(server, signum=signal.SIGKILL):
    """Kills it; returns the number of the next one, which is ready."""
    server.wait_log(r"event=ready workers=")  # told to the reaper, too
    before, start = server.keeper(), server.lines()
    os.kill(before, signum)
    server.wait_log(rf"event=keeper-died pid={before} cause=signal-", start=start)
    server.wait_log(r"event=ready workers=", start=start)
    after = server.keeper()
    assert after not in (None, before)
    return after


def state_of(server):
    return control.status(control.path_of(server))


def test_a_killed_keeper_is_started_anew(site):
    before = len(site.workers())
    dead = site.keeper()
    keeper = kill_keeper(site)
    assert site.request("/").status == 200
    state = state_of(site)
    assert state["pid"] == site.pid
    told = state["keeper"]
    assert (told["pid"], told["restarts"], told["last_cause"], told["causes"]) \
        == (keeper, 1, "signal-KILL", {"signal-KILL": 1})
    assert [e["cause"] for e in told["ends"] if e["was_keeper"]] == [
        "signal-KILL"]
    assert [e["pid"] for e in told["ends"] if e["was_keeper"]] == [dead]
    until(lambda: len(site.workers()) == before, what="as many as before")
    # Ready is said once, to whoever started it.
    assert sum(bool(READY.search(line)) for line in site.log) == 1
    site.stop()


def test_what_was_begun_is_finished(site):
    old = site.workers()
    with socket.create_connection(("127.0.0.1", site.port)) as s, \
            site.wire() as kept:
        assert kept.request("/www/page").status == 200
        s.sendall(b"GET /www/big HTTP/1.1\r\nHost: x\r\n\r\n")
        have = len(s.recv(4096))
        kill_keeper(site)
        # A request on a connection that was between two.
        reply = kept.request("/www/page")
        assert (reply.status, reply.get("Connection")) == (200, "close")
        s.settimeout(10)
        while True:
            more = len(s.recv(1 << 20))
            if not more:
                break
            have += more
        assert BIG < have < BIG + 1000
    until(lambda: not [p for p in old if alive(p)], what="their leaving")
    told = state_of(site)["keeper"]
    assert {p: "exit-0" for p in old}.items() <= {
        e["pid"]: e["cause"] for e in told["ends"]}.items()
    site.stop()


def test_an_orphan_has_the_grace_and_no_more(cardea):
    server = cardea(CONF.replace("grace 3s", "grace 300ms")
                    .replace("map GET /www", "#"))
    old = server.workers()
    for pid in old:
        stand_still(pid)
    kill_keeper(server)
    until(lambda: not [p for p in old if alive(p)], what="their end")
    causes = {e["pid"]: e["cause"] for e in state_of(server)["keeper"]["ends"]}
    assert [causes[p] for p in old] == ["signal-KILL"] * len(old)
    server.stop()


class Load(threading.Thread):
    """Asks for TARGET on fresh connections until it is told to end."""

    def __init__(self, port, target):
        super().__init__(daemon=True)
        self.port, self.target = port, target
        self.over = threading.Event()
        self.good = self.refused = 0
        self.failed = []

    def run(self):
        text = (f"GET {self.target} HTTP/1.1\r\nHost: x\r\n"
                "Connection: close\r\n\r\n").encode()
        while not self.over.is_set():
            try:
                with socket.create_connection(("127.0.0.1", self.port), 15) as s:
                    s.sendall(text)
                    got = b"".join(iter(lambda: s.recv(65536), b""))
            except ConnectionRefusedError:
                self.refused += 1
                continue
            except OSError as error:
                self.failed.append(type(error).__name__)
                continue
            if got.startswith(b"HTTP/1.1 200 "):
                self.good += 1
            else:
                self.failed.append(got[9:12].decode() or "closed")


def test_nobody_is_refused_while_keepers_die(site, capsys):
    loads = [Load(site.port, t) for t in ("/www/page", "/www/page", "/")]
    for load in loads:
        load.start()
    for _ in range(6):
        kill_keeper(site)
    until(lambda: all(load.good for load in loads), what="an answer to each")
    for load in loads:
        load.over.set()
        load.join(20)
    files, calls = loads[:2], loads[2]
    with capsys.disabled():
        print(f"# 6 keepers killed: files {sum(l.good for l in files)} good, "
              f"{sum(len(l.failed) for l in files)} failed; calls "
              f"{calls.good} good, failed {calls.failed}; refused "
              f"{sum(l.refused for l in loads)}")
    assert all(load.good for load in loads)
    assert not sum(load.refused for load in loads)
    assert not [f for load in files for f in load.failed]
    assert len(calls.failed) <= 6  # the one that its module had
    site.stop()


def test_two_deaths_in_a_row_wait_longer(site):
    kill_keeper(site)
    kill_keeper(site)
    waits = [float(m.group(1)) for m in (
        re.search(r"event=keeper-died .*wait_ms=([0-9.]+)", line)
        for line in site.log) if m]
    assert waits == [20, 40]
    assert state_of(site)["keeper"]["causes"] == {"signal-KILL": 2}
    site.stop()


def test_a_stop_right_after_a_death_ends_it(site):
    family = site.family()
    os.kill(site.keeper(), signal.SIGKILL)
    site.child.send_signal(signal.SIGTERM)
    # 3: the keeper that died was to stop already.
    assert site.wait_exit() in (0, 3)
    site.assert_gone(family)
    assert not os.path.exists(control.path_of(site))


def test_a_keeper_killed_while_it_stops_is_the_last(site):
    with socket.create_connection(("127.0.0.1", site.port)) as s:
        s.sendall(b"GET /www/big HTTP/1.1\r\nHost: x\r\n\r\n")
        s.recv(4096)
        site.child.send_signal(signal.SIGTERM)
        site.wait_log("event=stop cause=signal-TERM")
        family = site.family()
        os.kill(site.keeper(), signal.SIGKILL)
        assert site.wait_exit() == 3
    site.assert_gone(family)
    assert not [line for line in site.log if "event=keeper-start" in line]


def test_a_keeper_that_cannot_start_any_more_is_tried_again(cardea, folder):
    state = os.path.join(folder, "other")
    os.mkdir(state)
    server = cardea(CONF.replace("map GET /www", "#")
                    + 'set state-folder "$DIR/other"\n')
    shutil.rmtree(state)
    with open(state, "w", encoding="ascii") as f:
        f.write("in its place")
    server.wait_log(r"event=ready workers=")
    start = server.lines()
    os.kill(server.keeper(), signal.SIGKILL)
    server.wait_log(r"event=keeper-died .*cause=exit-1 count=2", start=start)
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        client.settimeout(15)
        os.unlink(state)
        assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
    server.stop()


def test_the_page_holds_the_latest_ends(cardea):
    server = cardea("set workers 8\nset heirs 4\n"
                    + CONF.replace("set workers 2", "")
                    .replace("map GET /www", "#"))
    for _ in range(2):
        path = control.path_of(server)
        until(lambda p=path: all(w["heirs"] == 4
                                 for w in control.status(p)["workers"]))
        kill_keeper(server)
    # Each time a keeper and eight workers with their heirs: more than fit.
    told = until(lambda: state_of(server)["keeper"]
                 if state_of(server)["keeper"]["reaped"] >= 82 else None)
    assert len({e["pid"] for e in told["ends"]}) == len(told["ends"]) == 16
    times = [e["at_s"] for e in told["ends"]]
    assert times == sorted(times, reverse=True)
    server.stop()


def first_child(pid):
    for name in os.listdir("/proc"):
        stat = stat_of(int(name)) if name.isdigit() else None
        if stat and stat[2] == pid and stat[1] not in "ZX":
            return int(name)
    return None


def test_a_keeper_killed_while_it_starts_is_started_anew(build, folder):
    server = Server(build, folder, CONF.replace("map GET /www", "#"))
    try:
        killer = threading.Thread(target=lambda: os.kill(
            until(lambda: server.child and first_child(server.pid)), 9))
        killer.start()
        server.start()
        killer.join()
        server.wait_log("event=keeper-died .*cause=signal-KILL")
        assert server.request("/").status == 200
        server.stop()
    finally:
        server.destroy()


def test_who_kills_the_reaper_ends_it_all(site):
    family = site.family()
    os.kill(site.pid, signal.SIGKILL)
    assert site.wait_exit() == -9
    site.assert_gone(family)


def test_who_starts_it_again_at_once_has_its_address(site):
    """As a supervisor does that sees only the main process end."""
    for _ in range(3):
        os.kill(site.pid, signal.SIGKILL)
        assert site.wait_exit() == -9
        site.log.clear()
        site.start()
        assert site.request("/").status == 200
    site.stop()


def waits_of(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return int(re.search(r"^voluntary_ctxt_switches:\s(\d+)", f.read(),
                             re.M).group(1))


def test_a_start_waits_for_an_address_that_is_given_back(build, folder):
    server = Server(build, folder, CONF.replace("map GET /www", "#"))
    with socket.create_server(("127.0.0.1", server.port)) as held:
        def give_back():
            # By then it asks again and again.
            until(lambda: server.child and waits_of(server.pid) > 10,
                  what="its waiting")
            held.close()

        other = threading.Thread(target=give_back)
        other.start()
        try:
            server.start()
            other.join()
            assert server.request("/").status == 200
            server.stop()
        finally:
            server.destroy()


def test_an_address_that_is_not_given_back_is_an_error(build, folder):
    server = Server(build, folder, CONF.replace("map GET /www", "#"))
    with socket.create_server(("127.0.0.1", server.port)):
        with pytest.raises(AssertionError, match="no line with"):
            server.start()
    assert server.wait_exit() == 1
    assert server.log == [
        f"cardea: {server.conf}:5:14: cannot listen on 127.0.0.1:{server.port}"
        ": Address already in use (another program listens there: ss -ltnp "
        "shows which)"]


def test_signals_go_on_once(site):
    """As from a terminal: one Ctrl-C, to the group, is an orderly stop."""
    family = site.family()
    os.killpg(site.pid, signal.SIGINT)
    assert site.wait_exit() == 0
    site.assert_gone(family)
    assert not [line for line in site.log if "second-int" in line]


def test_as_process_1_of_a_namespace(build, folder):
    probe = subprocess.run(["unshare", "-pf", "true"], check=False,
                           stderr=subprocess.DEVNULL)
    if probe.returncode:
        pytest.skip("no new namespace of processes here")
    server = Server(build, folder, CONF.replace("map GET /www", "#"))
    server.prefix = ["unshare", "-pf", "--kill-child=TERM"]
    try:
        server.start()
        reaper = first_child(server.pid)
        keeper = first_child(reaper)
        assert stat_of(keeper)[0] == "cardea-keeper"
        os.kill(keeper, 9)
        server.wait_log("event=keeper-died .*cause=signal-KILL")
        server.wait_log("event=keeper-start pid=")
        assert server.request("/").status == 200
        os.kill(reaper, signal.SIGTERM)
        assert server.wait_exit() == 0
    finally:
        server.destroy()


def test_without_root(build, folder):
    if os.geteuid() != 0:
        pytest.skip("the others are without root already")
    server = Server(build, folder, CONF.replace("map GET /www", "#"))
    for top, folders, _ in os.walk(folder):
        for name in [top] + [os.path.join(top, f) for f in folders]:
            os.chown(name, GUEST, GUEST)
    server.prefix = ["setpriv", f"--reuid={GUEST}", f"--regid={GUEST}",
                     "--clear-groups"]
    try:
        server.start()
        kill_keeper(server)
        assert server.request("/").status == 200
        server.stop()
    finally:
        server.destroy()


def test_the_main_process_tells_systemd(build, folder):
    """A unit with NotifyAccess=main, which is the default, hears no other."""
    path = os.path.join(folder, "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        s.bind(path)
        os.chmod(path, 0o777)
        s.settimeout(10)
        server = Server(build, folder, CONF.replace("map GET /www", "#"),
                        {"NOTIFY_SOCKET": path})
        try:
            server.start()

            def heard():
                text, anc, _, _ = s.recvmsg(100, 100)
                return text, int.from_bytes(anc[0][2][:4], "little")

            assert heard() == (b"READY=1", server.pid)
            server.stop()
            assert b"STOPPING=1" in [heard()[0]]
        finally:
            server.destroy()
