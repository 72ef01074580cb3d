"""`forward tcp`: the door alone knows the protocol. By call (what one read gave,
the answer, the end) and by pass (the door is handed the connection). And Unix
sockets, for HTTP and for these."""

import errno
import os
import signal
import socket
import stat
import subprocess
import threading
import time

import pytest

from lib.pace import within
from lib.server import alive, free_port, stand_still, until

READ = 65536
TO = """
set header-timeout 1s
set body-timeout 1s
module raw { run "$PROGRAMS/raw"; timeout %s }
forward tcp 127.0.0.1:$PORT to raw
"""
PASS = """
module taker { run "$PROGRAMS/pass %s"; timeout 2s }
forward tcp 127.0.0.1:$PORT pass taker
"""
HELLO = """
    #include <fcntl.h>
    #include <stdio.h>
    #include <string.h>
    #include <unistd.h>
    #include <door.h>
    #include <stropts.h>
    static void answer(void *cookie, char *argp, size_t arg_size,
                       door_desc_t *dp, unsigned int n_desc)
    {
        char text[] = "HTTP/1.1 200 OK\\r\\nContent-Length: 24\\r\\n"
                      "\\r\\nWell, hello to you too!\\n";
        (void)cookie; (void)argp; (void)arg_size; (void)dp; (void)n_desc;
        door_return(text, strlen(text), NULL, 0);
    }
    int main(int argc, char **argv)
    {
        int fd = open(argv[argc - 1], O_RDWR | O_CREAT, 0666);
        int d = door_create(answer, NULL, 0);
        if (fd < 0 || d < 0 || fattach(d, argv[argc - 1]) < 0) {
            perror("hello");
            return 1;
        }
        close(fd);
        puts("attached");
        fflush(stdout);
        for (;;) {
            pause();
        }
    }
"""


def dial(where):
    """A connection to a port, or to the path of a Unix socket."""
    family = socket.AF_INET if isinstance(where, int) else socket.AF_UNIX
    s = socket.socket(family, socket.SOCK_STREAM)
    s.settimeout(15)
    s.connect(("127.0.0.1", where) if isinstance(where, int) else where)
    return s


def rest(s):
    """All that comes, until the end."""
    got = bytearray()
    while True:
        more = s.recv(1 << 20)
        if not more:
            return bytes(got)
        got += more


def call(where, data=b"", half=False):
    """One connection: sends DATA, and closes its half if so asked; what comes
    back until the end."""
    with dial(where) as s:
        if data:
            s.sendall(data)
        if half:
            try:
                s.shutdown(socket.SHUT_WR)
            except OSError as e:  # a reset that was faster
                if e.errno != errno.ENOTCONN:
                    raise
                raise ConnectionResetError from e
        return rest(s)


def assert_reset(where, data=b"", half=False):
    """No answer, and not something that looks like an empty one."""
    with pytest.raises(ConnectionResetError):
        call(where, data, half)


def reset(s):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    s.close()


def all_at_once(jobs):
    """Runs each job on a thread of its own; their values, in order."""
    values = [None] * len(jobs)

    def run(n):
        try:
            values[n] = jobs[n]()
        except BaseException as error:  # the caller compares
            values[n] = error

    threads = [threading.Thread(target=run, args=(n,), daemon=True)
               for n in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    return values


def counts(server, program):
    """Descriptors of the workers and of the module, when they stand still."""
    seen = []

    def steady():
        seen.append([server.fds(p) for p in
                     server.workers() + server.modules(program)])
        return seen[-5:].count(seen[-1]) == 5

    until(steady, what="descriptors that stay the same")
    return seen[-1]


@pytest.fixture
def raw(cardea):
    return cardea(TO % "20s")


@pytest.fixture
def serving(cardea):
    return cardea(PASS % "serve")


# to: what goes in and what comes out

@pytest.mark.parametrize("data", [
    b"x", b"hello\n", b"\0\r\n\0\xff\xfe", bytes(range(256)) * 16,
    b"GET / HTTP/1.1\r\n\r\n",
])
def test_what_one_read_gave_is_one_call(raw, data):
    assert call(raw.port, data) == b"%d:%s" % (len(data), data)


def test_the_door_need_not_wait_for_an_end(raw):
    with dial(raw.port) as s:
        s.sendall(b"abc")
        assert rest(s) == b"3:abc"


def test_a_client_that_ends_without_a_byte_is_a_call_of_no_bytes(raw):
    assert call(raw.port, half=True) == b"0:"


def test_an_answer_of_no_bytes_is_an_orderly_end(raw):
    assert call(raw.port, b"nothing") == b""
    raw.wait_log(r"event=request .* proto=tcp how=call in=7 bytes=0 .*"
                 r"run_ms=\S+ copy=\d+ total_ms=\S+$")


def test_a_read_has_at_most_64_kib_and_the_answer_is_not_cut(raw):
    data = os.urandom(200 * 1024)
    with dial(raw.port) as s:
        sender = threading.Thread(target=s.sendall, args=(data,), daemon=True)
        sender.start()
        got = rest(s)
        sender.join(15)
    length, got = got.split(b":", 1)
    assert 0 < int(length) <= READ
    assert got == data[:int(length)]


def test_a_whole_64_kib_reach_the_door_in_one_call(raw):
    """They are there before anybody reads: the worker stands still."""
    data = os.urandom(READ)
    for pid in raw.workers():
        stand_still(pid)
    try:
        s = dial(raw.port)
        s.sendall(data)
    finally:
        for pid in raw.workers():
            os.kill(pid, signal.SIGCONT)
    assert rest(s) == b"65536:" + data
    s.close()


def test_an_answer_of_5_mib_arrives_whole(raw):
    assert call(raw.port, b"big 5242880") == b"b" * 5242880


def test_the_log_says_it_all(raw):
    start = raw.lines()
    call(raw.port, b"abc")
    raw.wait_log(r"event=request id=[0-9a-f]{16} client=127\.0\.0\.1:\d+ "
                 r"proto=tcp how=call in=3 bytes=5 module=raw queue_ms=\S+ "
                 r"wait_ms=\S+ run_ms=\S+ copy=\d+ total_ms=\S+$", start=start)


def test_calls_that_wait_get_a_thread_each(raw):
    assert call(raw.port, b"x") == b"1:x"
    for _ in range(2):
        answers = all_at_once([lambda: call(raw.port, b"sleep 100")] * 200)
        assert answers == [b"slept\n"] * 200
    (pid,) = raw.modules("raw")
    # 200 of them, the listening one and main's; two workers may differ a bit.
    assert raw.threads(pid) <= 206


# to: clients

def test_a_client_that_says_nothing_is_closed_after_the_header_timeout(raw):
    began = time.monotonic()
    with dial(raw.port) as s:
        assert rest(s) == b""
    took = time.monotonic() - began
    assert took > 0.9 and within(took, 5)
    raw.wait_log(r"proto=tcp how=call in=0 .*cause=client-slow")


def test_a_client_that_resets_before_its_call(raw):
    for pid in raw.workers():
        stand_still(pid)
    start = raw.lines()
    reset(dial(raw.port))
    for pid in raw.workers():
        os.kill(pid, signal.SIGCONT)
    raw.wait_log(r"proto=tcp how=call in=0 bytes=0 .*cause=client-gone",
                 start=start)
    assert call(raw.port, b"x") == b"1:x"


def test_a_client_that_resets_during_its_call(raw):
    start = raw.lines()
    s = dial(raw.port)
    s.sendall(b"sleep 300")
    raw.wait_log("sleeping 300", start=start)
    reset(s)
    raw.wait_log(r"how=call in=9 bytes=0 .*cause=client-gone", start=start)
    assert call(raw.port, b"x") == b"1:x"


def test_a_client_that_resets_during_its_answer(raw):
    start = raw.lines()
    s = dial(raw.port)
    s.sendall(b"big 50000000")
    assert s.recv(1000)
    reset(s)
    raw.wait_log(r"how=call in=12 .*cause=client-gone", start=start)
    assert call(raw.port, b"x") == b"1:x"


def test_a_client_that_does_not_read_is_cut_and_sees_it(raw):
    start = raw.lines()
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.settimeout(15)
        s.connect(("127.0.0.1", raw.port))
        s.sendall(b"big 50000000")
        raw.wait_log(r"how=call in=12 .*cause=client-gone", start=start)
        with pytest.raises(ConnectionResetError):
            rest(s)


def test_a_client_that_reads_slowly_gets_all(raw):
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        s.settimeout(15)
        s.connect(("127.0.0.1", raw.port))
        s.sendall(b"big 20000000")
        n = 0
        while True:
            data = s.recv(200000)
            if not data:
                break
            n += len(data)
            time.sleep(0.002)  # a reader's own pace, not a wait
    assert n == 20000000


# to: doors

def test_no_door_is_a_reset(cardea):
    server = cardea("""
        forward tcp 127.0.0.1:$PORT to "$DIR/none.door"
    """)
    assert_reset(server.port, b"abc")
    server.wait_log(r"how=call in=0 bytes=0 door=\S+none.door .*cause=no-door")


def test_a_crash_in_the_call_is_a_reset_and_the_door_comes_back(raw):
    assert_reset(raw.port, b"crash")
    raw.wait_log(r"how=call in=5 bytes=0 .*cause=crash")

    def back():
        try:
            return call(raw.port, b"x") == b"1:x"
        except ConnectionResetError:
            return False

    until(back, what="its return")


def test_a_procedure_that_returns_without_an_answer_is_a_reset(raw):
    assert_reset(raw.port, b"quit")
    raw.wait_log(r"in=4 bytes=0 .*cause=crash error=EINTR")
    assert call(raw.port, b"x") == b"1:x"


def test_a_call_that_takes_too_long_is_a_reset(cardea):
    server = cardea(TO % "300ms")
    began = time.monotonic()
    assert_reset(server.port, b"sleep 2000")
    assert within(time.monotonic() - began, 1.9)
    server.wait_log(r"in=10 bytes=0 .*cause=deadline")
    assert call(server.port, b"x") == b"1:x"


def test_a_connection_waits_for_a_door_on_its_way(raw):
    """A worker that has just come has no ring yet."""
    for _ in range(3):
        for pid in raw.workers():
            os.kill(pid, signal.SIGKILL)
        until(lambda: len(raw.workers()) > 0, what="a worker")
        answers = all_at_once([lambda: call(raw.port, b"x")] * 5)
        assert all(a == b"1:x" or isinstance(a, ConnectionResetError)
                   for a in answers)
        assert call(raw.port, b"x") == b"1:x"


def test_term_lets_a_call_finish(raw):
    s = dial(raw.port)
    start = raw.lines()
    s.sendall(b"sleep 700")
    raw.wait_log("sleeping 700", start=start)
    raw.stop()
    assert rest(s) == b"slept\n"
    s.close()


def test_a_second_int_cuts_and_the_client_sees_it(raw):
    s = dial(raw.port)
    start = raw.lines()
    s.sendall(b"sleep 19000")
    raw.wait_log("sleeping 19000", start=start)
    raw.child.send_signal(signal.SIGINT)
    raw.wait_log(r"event=stop\b")
    raw.child.send_signal(signal.SIGINT)
    assert raw.wait_exit() == 2
    with pytest.raises(ConnectionResetError):
        rest(s)
    s.close()


def test_a_cardea_h_program_takes_the_bytes_as_a_body(cardea, compile_program):
    compile_program("""
        #include <cardea.h>
        static void answer(struct cardea_request *r)
        {
            size_t len;
            const char *body = cardea_body(r, &len);
            cardea_printf(r, "[%s][%s][%s][%s]%zu:%.*s", cardea_method(r),
                          cardea_path(r), cardea_rest(r), cardea_peer(r),
                          len, (int)len, body);
            cardea_status(r, 500); /* says nothing here */
            if (len == 4) {
                char *room = cardea_room(r, 3000000);
                for (int i = 0; i < 3000000; i++) {
                    room[i] = 'n';
                }
                cardea_commit(r, 3000000);
            }
        }
        int main(void) { return cardea_serve_threads(answer); }
    """, name="mine")
    server = cardea("""
        module mine { run "./mine" }
        forward tcp 127.0.0.1:$PORT to mine
    """)
    assert call(server.port, b"ab\xff") == b"[][][][127.0.0.1]3:ab\xff"
    assert call(server.port, half=True) == b"[][][][127.0.0.1]0:"
    # More than this may come in two reads.
    big = b"x" * 20000
    assert call(server.port, big) == b"[][][][127.0.0.1]20000:" + big
    assert call(server.port, b"abcd").count(b"n") == 3000000


def test_a_thousand_of_each_end_leave_nothing_behind(raw):
    def gone(data, when):
        s = dial(raw.port)
        if data:
            s.sendall(data)
        if when:
            raw.wait_log(when[0], start=when[1])
        reset(s)

    all_at_once([lambda: call(raw.port, b"sleep 50")] * 50)  # its threads
    before = counts(raw, "raw")
    for _ in range(20):
        all_at_once([lambda: call(raw.port, b"x")] * 50)
    for _ in range(1000):
        gone(b"", None)
    for _ in range(1000):
        gone(b"abc", None)
    for _ in range(100):
        all_at_once([lambda: gone(b"sleep 5", None)] * 10)
    assert call(raw.port, b"x") == b"1:x"
    until(lambda: all(n <= b + 1 for n, b in
                      zip(counts(raw, "raw"), before)),
          what=f"return to {before}, now {counts(raw, 'raw')}")


# pass

def test_the_door_gets_the_connection(serving):
    with dial(serving.port) as s:
        port = s.getsockname()[1]
        for line in (b"one\n", b"two\n"):
            s.sendall(line)
            assert s.recv(1000) == b"%d %s" % (port, line)
        s.shutdown(socket.SHUT_WR)
        assert rest(s) == b""
    serving.wait_log(r"client=127\.0\.0\.1:%d proto=tcp how=pass bytes=0 "
                     r"module=taker queue_ms=\S+ wait_ms=\S+ run_ms=\S+ "
                     r"copy=\d+ total_ms=\S+$"
                     % port)


def test_the_door_may_speak_first_and_need_no_byte(cardea, compile_program):
    compile_program("""
        #include <stdlib.h>
        #include <string.h>
        #include <unistd.h>
        #include <door.h>
        static void greet(void *c, char *a, size_t n, door_desc_t *dp,
                          unsigned int nd)
        {
            int fd = dp[0].d_data.d_desc.d_descriptor;
            (void)c; (void)a; (void)n; (void)nd;
            if (write(fd, "220 ready\\n", 10) < 0) {
                abort();
            }
            close(fd);
            door_return(NULL, 0, NULL, 0);
        }
        int main(void)
        {
            int d = door_create(greet, NULL, 0);
            if (door_attach(d, getenv("CARDEA_DOOR"), 0666) < 0) {
                return 1;
            }
            for (;;) {
                pause();
            }
        }
    """, name="greet")
    server = cardea("""
        module greet { run "./greet" }
        forward tcp 127.0.0.1:$PORT pass greet
    """)
    assert [call(server.port) for _ in range(50)] == [b"220 ready\n"] * 50


def test_the_doors_close_is_what_the_client_sees(serving):
    """It is still in its call then; the worker's copy must not keep the
    connection open."""
    with dial(serving.port) as s:
        s.sendall(b"stay 3000\n")
        began = time.monotonic()
        assert rest(s) == b"bye\n"
        assert within(time.monotonic() - began, 2)


def test_a_served_connection_has_no_time_limit(serving):
    with dial(serving.port) as s:
        s.sendall(b"one\n")
        assert s.recv(1000).endswith(b" one\n")
        began = time.monotonic()
        until(lambda: time.monotonic() - began > 2.5,
              what="more than a call's time")
        s.sendall(b"two\n")
        assert s.recv(1000).endswith(b" two\n")


@pytest.mark.parametrize("how", ["serve", "keep"])
def test_a_hundred_connections_at_once(cardea, how):
    server = cardea(PASS % how)
    before = None
    for _ in range(2):
        ends = [dial(server.port) for _ in range(100)]
        for n, s in enumerate(ends):
            s.sendall(b"line %d\n" % n)
        for n, s in enumerate(ends):
            assert s.recv(1000) == b"%d line %d\n" % (s.getsockname()[1], n)
        for s in ends:
            s.sendall(b"bye\n")
            assert rest(s) == b"bye\n"
            s.close()
        now = counts(server, "pass")
        before = before or now
    assert all(n <= b + 1 for n, b in zip(now, before)), (before, now)
    if how == "serve":
        (pid,) = server.modules("pass")
        assert server.threads(pid) <= 106


@pytest.mark.parametrize("how, end", [("keep", b"bye\n"), ("drop", b"")])
def test_a_thousand_passed_connections_leave_nothing_behind(cardea, how, end):
    server = cardea(PASS % how)

    def one():
        with dial(server.port) as s:
            try:
                s.sendall(b"bye\n")
                return rest(s)
            except (ConnectionResetError, BrokenPipeError):
                return b""  # closed with our line unread

    all_at_once([one] * 50)
    before = counts(server, "pass")
    for _ in range(20):
        assert all_at_once([one] * 50) == [end] * 50
    until(lambda: all(n <= b + 1 for n, b in
                      zip(counts(server, "pass"), before)),
          what=f"return to {before}, now {counts(server, 'pass')}")


def test_a_door_that_refuses_descriptors(cardea):
    server = cardea(PASS % "refuse")
    server.wait_log(r"level=warn event=cannot-pass module=taker door=\S+ "
                    rf"listener=127.0.0.1:{server.port} "
                    "cause=takes-no-descriptors$")
    for _ in range(8):
        assert_reset(server.port, half=True)
    assert len([line for line in server.log
                if "event=cannot-pass" in line]) == 1
    server.wait_log(r"how=pass bytes=0 .*cause=takes-no-descriptors")
    assert server.modules("pass")


@pytest.mark.parametrize("program", ["hello"])
def test_a_cardea_h_program_cannot_take_a_connection(cardea, program):
    server = cardea(f"""
        module {program} {{ run "$PROGRAMS/{program}" }}
        forward tcp 127.0.0.1:$PORT pass {program}
    """)
    assert_reset(server.port, half=True)
    server.wait_log(r"how=pass bytes=0 .*cause=takes-no-descriptors")


def test_a_program_of_0_1_is_not_passed_connections_and_takes_bytes(cardea):
    fixture = os.path.join(os.path.dirname(os.path.abspath(__file__)),
                           "fixtures", "door-0.1-x86_64")
    if os.uname().machine != "x86_64":
        pytest.skip("the fixtures are x86-64 programs")
    other = free_port()
    server = cardea(f"""
        module old {{ run "{fixture}" }}
        forward tcp 127.0.0.1:$PORT pass old
        forward tcp 127.0.0.1:{other} to old
    """)
    assert_reset(server.port, half=True)
    server.wait_log(r"how=pass bytes=0 .*cause=takes-no-descriptors")
    assert call(other, b"GET / HTTP/1.1\r\n\r\n").endswith(
        b"A plain door of 0.1.\n")


def test_nobody_there_to_pass_it_to(cardea):
    server = cardea("""
        forward tcp 127.0.0.1:$PORT pass "$DIR/none.door"
    """)
    assert_reset(server.port, half=True)
    server.wait_log(r"how=pass bytes=0 .*cause=no-door")


@pytest.mark.parametrize("how", ["serve", "keep"])
def test_a_kill_of_the_program_ends_its_connections(cardea, how):
    server = cardea(PASS % how)
    ends = [dial(server.port) for _ in range(20)]
    for s in ends:
        s.sendall(b"one\n")
        assert s.recv(1000).endswith(b" one\n")
    start = server.lines()
    (pid,) = server.modules("pass")
    os.kill(pid, signal.SIGKILL)
    for s in ends:
        try:
            assert rest(s) == b""
        except ConnectionResetError:
            pass
        s.close()
    if how == "serve":
        server.wait_log(r"how=pass .*cause=crash", start=start)

    def back():
        try:
            return call(server.port, b"bye\n") == b"bye\n"
        except (ConnectionResetError, BrokenPipeError):
            return False

    until(back, what="its return")


def test_a_crash_takes_its_own_connections_only(serving):
    with dial(serving.port) as s:
        s.sendall(b"crash\n")
        try:
            assert rest(s) == b""
        except ConnectionResetError:
            pass
    serving.wait_log(r"how=pass .*cause=crash")
    serving.wait_log(r"event=died")  # or its end would be one of the stop


def test_a_kept_connection_outlives_the_worker_that_passed_it(cardea):
    server = cardea(PASS % "keep")
    with dial(server.port) as s:
        s.sendall(b"one\n")
        assert s.recv(1000).endswith(b" one\n")
        old = server.workers()
        for pid in old:
            os.kill(pid, signal.SIGKILL)
        until(lambda: not any(alive(p) for p in old), what="their end")
        s.sendall(b"two\n")
        assert s.recv(1000).endswith(b" two\n")
        s.sendall(b"bye\n")
        assert rest(s) == b"bye\n"


def test_a_client_that_leaves_before_it_is_served(serving):
    for _ in range(100):
        reset(dial(serving.port))
    with dial(serving.port) as s:
        s.sendall(b"one\n")
        assert s.recv(1000).endswith(b" one\n")


def test_term_waits_for_a_connection_that_is_served(serving):
    with dial(serving.port) as s:
        s.sendall(b"one\n")
        assert s.recv(1000).endswith(b" one\n")
        serving.child.send_signal(signal.SIGTERM)
        serving.wait_log(r"event=stop\b")
        s.sendall(b"two\n")
        assert s.recv(1000).endswith(b" two\n")
        s.sendall(b"bye\n")
        assert rest(s) == b"bye\n"
    assert serving.wait_exit() == 0


def test_a_stuck_program_is_not_waited_for(cardea):
    """It never takes the connection: after the call's time it is cut."""
    server = cardea(PASS % "serve")
    assert call(server.port, b"bye\n") == b"bye\n"
    (pid,) = server.modules("pass")
    start = server.lines()
    stand_still(pid)
    try:
        began = time.monotonic()
        assert_reset(server.port, b"x")
        assert 1.5 < time.monotonic() - began < 10
        server.wait_log(r"how=pass .*cause=deadline", start=start)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert call(server.port, b"bye\n") == b"bye\n"


def test_more_connections_than_a_stuck_program_can_be_sent(cardea):
    server = cardea(PASS % "serve")
    assert call(server.port, b"bye\n") == b"bye\n"
    before = counts(server, "pass")
    (pid,) = server.modules("pass")
    start = server.lines()
    stand_still(pid)
    ends = [dial(server.port) for _ in range(900)]
    server.wait_log(r"how=pass .*cause=(full|deadline)", start=start)
    os.kill(pid, signal.SIGCONT)
    for s in ends:
        s.close()
    until(lambda: all(n <= b + 1 for n, b in
                      zip(counts(server, "pass"), before)),
          what=f"return to {before}, now {counts(server, 'pass')}")
    assert call(server.port, b"bye\n") == b"bye\n"


# PortunusD's own line

def test_a_hello_server_of_illumos_is_served(cardea, compile_program, folder):
    hello = compile_program(HELLO, name="hello")
    path = os.path.join(folder, "hello.door")
    child = subprocess.Popen([hello, path], stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE)
    try:
        assert child.stdout.readline() == b"attached\n"
        server = cardea("forward tcp 0.0.0.0:$PORT to $DIR/hello.door\n")
        done = subprocess.run(
            ["curl", "-sS", f"http://127.0.0.1:{server.port}/"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, timeout=30, check=False)
        assert (done.returncode, done.stdout) == (
            0, b"Well, hello to you too!\n")
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


# Unix sockets

UNIX = """
module hello { run "$PROGRAMS/hello" }
module raw   { run "$PROGRAMS/raw" }
module taker { run "$PROGRAMS/pass serve" }
forward http unix:web.sock mode 0640 to hello
forward tcp  unix:raw.sock to raw
forward tcp  unix:pass.sock pass taker
"""


def test_http_on_a_unix_socket(cardea, folder):
    server = cardea(UNIX)
    path = os.path.join(folder, "web.sock")
    assert server.url == "unix:" + path
    done = subprocess.run(
        ["curl", "-sS", "--unix-socket", path, "http://any/"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (0, b"Well, hello to you too!\n")
    server.wait_log(r"event=request .*client=unix method=GET .*status=200")


def test_connections_on_unix_sockets(cardea, folder):
    server = cardea(UNIX)
    raw = os.path.join(folder, "raw.sock")
    assert call(raw, b"abc") == b"3:abc"
    assert call(raw, half=True) == b"0:"
    assert call(raw, b"big 5242880") == b"b" * 5242880
    with dial(os.path.join(folder, "pass.sock")) as s:
        s.sendall(b"one\n")
        assert s.recv(1000) == b"0 one\n"
        s.sendall(b"bye\n")
        assert rest(s) == b"bye\n"
    server.wait_log(r"client=unix proto=tcp how=call in=3 bytes=5")
    server.wait_log(r"client=unix proto=tcp how=pass")


def test_who_sends_to_a_unix_socket_and_leaves_has_called(cardea, folder):
    server = cardea(UNIX)
    start = server.lines()
    with dial(os.path.join(folder, "raw.sock")) as s:
        s.sendall(b"sleep 1")
    server.wait_log(r'"sleeping 1"', start=start)


def test_the_peer_is_called_unix(cardea, compile_program, folder):
    compile_program("""
        #include <cardea.h>
        static void hello(struct cardea_request *r)
        {
            cardea_printf(r, "%s %d", cardea_peer(r), cardea_peer_port(r));
        }
        int main(void) { return cardea_serve_threads(hello); }
    """, name="mine")
    cardea("""
        module mine { run "./mine" }
        forward http unix:$DIR/s.sock to mine
    """)
    with dial(os.path.join(folder, "s.sock")) as s:
        s.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert rest(s).endswith(b"\r\n\r\nunix 0")


def test_the_socket_has_its_mode_and_goes_with_the_server(cardea, folder):
    server = cardea(UNIX)
    modes = {}
    for name in ("web.sock", "raw.sock"):
        st = os.stat(os.path.join(folder, name))
        assert stat.S_ISSOCK(st.st_mode)
        modes[name] = stat.S_IMODE(st.st_mode)
    assert modes == {"web.sock": 0o640, "raw.sock": 0o666}
    server.stop()
    assert [n for n in os.listdir(folder) if n.endswith(".sock")] == []


def test_a_dead_socket_file_gives_way_and_a_live_one_does_not(
        cardea, cli, folder):
    server = cardea(UNIX)
    path = os.path.join(folder, "web.sock")
    second = cli("run", "-f", server.conf)
    assert second.returncode == 1
    server.child.kill()
    server.child.wait()
    until(lambda: not server.workers(), what="the end of its workers")
    assert os.path.exists(path)
    again = cardea(UNIX)
    with dial(path) as s:
        s.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert rest(s).endswith(b"Well, hello to you too!\n")
    again.stop()
    assert not os.path.exists(path)


def test_a_live_socket_is_an_error_that_names_the_place(cardea, cli, folder):
    cardea(UNIX)
    other = os.path.join(folder, "other.conf")
    with open(other, "w", encoding="ascii") as f:
        f.write('forward tcp unix:raw.sock to "x/y.door"\n')
    second = cli("run", "-f", other)
    assert second.returncode == 1
    assert (f"{other}:1:13: cannot listen on unix:{folder}/raw.sock: Address "
            "already in use (another program listens there: ss -lxp shows "
            "which)") in second.stderr
    assert call(os.path.join(folder, "raw.sock"), b"x") == b"1:x"
