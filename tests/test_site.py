"""The example site, as `make run` serves it: its own cardea.conf, with the
programs of the build under test."""

import concurrent.futures
import hashlib
import os
import re
import signal
import subprocess

import pytest

from lib.browser import Browser, missing
from lib.server import until

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SITE = os.path.join(ROOT, "examples", "site")
HTML = ["Accept: text/html,application/xhtml+xml,*/*;q=0.8"]


def site_conf(build, *more):
    """The site's cardea.conf for a free port, with paths of BUILD."""
    for name in ("visits", "upload", "status"):
        if not os.path.exists(os.path.join(build, "examples", "site", name)):
            pytest.skip(f"{name} was not built: its library is missing")
    with open(os.path.join(SITE, "cardea.conf"), encoding="utf-8") as f:
        text = f.read()
    text = text.replace("forward http 127.0.0.1 to",
                        "forward http 127.0.0.1:$PORT to")
    text = text.replace('"../../build/', '"$BUILD/')
    text = text.replace('"www"', f'"{SITE}/www"')
    text = text.replace('"./env.sh"', f'"{SITE}/env.sh"')
    return "\n".join(more) + "\n" + text


@pytest.fixture
def site(build, cardea):
    def start(*more, **environment):
        return cardea(site_conf(build, *more), **environment)
    return start


def visit(server, path="/visits", **more):
    """(count of the path, count of all) after one more visit."""
    reply = server.request(path, **more)
    assert reply.status == 200, reply
    return tuple(int(n) for n in re.match(
        r"visits of .*: (\d+)\nvisits of all pages: (\d+) since "
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\n", reply.text).groups())


def program(server, name):
    """The process of the site's program NAME."""
    return until(lambda: server.modules(name), what=name)[0]


def sha256(data):
    """What sha256sum(1) says."""
    done = subprocess.run(["sha256sum"], input=data, stdout=subprocess.PIPE,
                          check=True)
    return done.stdout.decode().split()[0]


# /visits

def test_visits_are_counted_by_path_and_in_all(site):
    server = site()
    assert visit(server) == (1, 1)
    assert visit(server) == (2, 2)
    assert visit(server, "/visits/other") == (1, 3)
    assert visit(server) == (3, 4)
    # HEAD only looks.
    assert server.request("/visits", "HEAD").status == 200
    assert visit(server) == (4, 5)


def test_visits_shows_the_last_ten(site):
    server = site()
    for i in range(12):
        visit(server, f"/visits/{i}")
    lines = server.request("/visits/last").text.split("\n\n")[1].splitlines()
    assert [l.split()[1] for l in lines] == \
        ["/visits/last"] + [f"/visits/{i}" for i in range(11, 2, -1)]
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z ", l)
               for l in lines)


def test_a_path_is_shown_as_text(site):
    page = site().request("/visits/%3Cscript%3E%22%26'", fields=HTML)
    assert page.get("Content-Type") == "text/html; charset=utf-8"
    assert "/visits/&lt;script&gt;&quot;&amp;&#39;" in page.text
    assert "<script" not in page.text


def test_strangers_cannot_fill_the_table_of_paths(site):
    server = site()
    with server.wire() as wire:
        for i in range(1000):
            assert wire.request(f"/visits/{i}").status == 200
        text = wire.request("/visits/one-too-many").text
        assert text.startswith("visits of (others): 1\n")
        text = wire.request("/visits/" + "x" * 300).text
        assert text.startswith("visits of (others): 2\n")
        # Those that are known are still counted as themselves.
        assert wire.request("/visits/7").text.startswith(
            "visits of /visits/7: 2\n")


def many(server, clients, each):
    """CLIENTS connections at once, EACH visits on every one. The counts that
    they were told."""
    def one(_):
        with server.wire(timeout=60) as wire:
            return [int(re.match(r"visits of /visits: (\d+)\n",
                                 wire.request("/visits").text).group(1))
                    for _ in range(each)]
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        return [n for told in pool.map(one, range(clients)) for n in told]


def test_no_visit_is_lost_or_counted_twice_under_many_threads(site):
    server = site()
    told = many(server, clients=24, each=20)
    assert sorted(told) == list(range(1, 481))
    assert server.threads(program(server, "visits")) > 2


def test_visits_outlive_restarts_and_kill_9(site):
    server = site()
    assert [visit(server)[0] for _ in range(3)] == [1, 2, 3]
    server.stop()

    server = site()
    assert visit(server) == (4, 4)
    # The program dies while others ask: what was told was counted, and what
    # was counted is at most what was asked, and once more what was in progress:
    # a GET is safe, and made again.
    asked = told = 0
    for _ in range(3):
        start = server.lines()
        pid = program(server, "visits")
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            replies = [pool.submit(server.request, "/visits", timeout=60)
                       for _ in range(40)]
            concurrent.futures.wait(
                replies, return_when=concurrent.futures.FIRST_COMPLETED)
            os.kill(pid, signal.SIGKILL)
            done = [r.result() for r in replies]
        assert {r.status for r in done} <= {200, 502, 503}
        asked += len(done)
        told += sum(r.status == 200 for r in done)
        server.wait_log(r"event=door-open module=visits", start=start)
        until(lambda: server.request("/visits", "HEAD").status == 200)
    now = visit(server)[0]
    assert 4 + told + 1 <= now <= 4 + asked + 1 + 3 * 8

    # The whole server dies.
    family = server.family()
    for pid, _ in family:
        os.kill(pid, signal.SIGKILL)
    server.wait_exit()
    server.assert_gone(family)
    assert visit(site())[0] == now + 1


def test_visits_without_a_state_folder_says_what_is_missing(site):
    """And goes on saying it, instead of ending again and again."""
    server = site(STATE_DIRECTORY="/proc/none/there")
    server.wait_log("event=no-state")
    reply = server.request("/visits")
    assert (reply.status, reply.text) == (
        503, "There is no state folder to count visits in. Name one in "
             "cardea.conf: set state-folder PATH\n")
    page = server.request("/visits", fields=HTML)
    assert page.status == 503
    assert '<code>set state-folder "' in page.text
    assert not [line for line in server.log if "event=died" in line]


def test_a_browser_finds_an_icon(site):
    """Also on a page of plain text, which can name none."""
    reply = site().request("/favicon.ico")
    assert (reply.status, reply.get("Content-Type"), reply.body[:4]) == (
        200, "image/vnd.microsoft.icon", b"\0\0\1\0")


# /upload

SIZES = [0, 1, 5 << 20]


def block(size):
    return (bytes(range(251)) * (size // 251 + 1))[:size]


def answer(name, data):
    return (f"name {name}\n" if name else "") + \
        f"size {len(data)}\nsha256 {sha256(data)}\n"


@pytest.fixture(scope="module")
def upload(build, shared):
    """One server for all uploads, with a limit of 6 MiB."""
    return shared(site_conf(build, "set body-limit 6M"))


def curl(server, *words, data=None):
    done = subprocess.run(
        ["curl", "-sS", "--max-time", "60", *words,
         f"http://127.0.0.1:{server.port}/upload"], input=data,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("how", [[], ["-H", "Transfer-Encoding: chunked"],
                                 ["-H", "Expect: 100-continue"]])
def test_upload_of_a_raw_body(upload, size, how):
    data = block(size)
    assert curl(upload, *how, "--data-binary", "@-", data=data) == \
        answer(None, data)


@pytest.mark.parametrize("size", SIZES)
def test_upload_of_a_form(upload, folder, size):
    path = os.path.join(folder, "a file.bin")
    with open(path, "wb") as f:
        f.write(block(size))
    assert curl(upload, "-F", "note=no file", "-F", f"file=@{path}") == \
        answer("a file.bin", block(size))


def test_upload_of_several_files(upload, folder):
    words = []
    for name, size in (("one", 1), ("two", 20000)):
        with open(os.path.join(folder, name), "wb") as f:
            f.write(block(size))
        words += ["-F", f"file=@{folder}/{name}"]
    assert curl(upload, *words) == answer("one", block(1)) + \
        answer("two", block(20000))


def test_upload_takes_the_known_sum(upload):
    # FIPS 180-2, appendix B.1
    reply = upload.request("/upload/abc.txt", "POST", body=b"abc")
    assert reply.text == (
        "name abc.txt\nsize 3\nsha256 ba7816bf8f01cfea414140de5dae2223"
        "b00361a396177a9cb410ff61f20015ad\n")
    assert hashlib.sha256(b"abc").hexdigest() in reply.text


def form_of(name):
    return (b'--b\r\nContent-Disposition: form-data; name="file"; filename="'
            + name + b'"\r\n\r\nabc\r\n--b--\r\n',
            ["Content-Type: multipart/form-data; boundary=b"])


def test_an_evil_name_is_only_text(upload):
    body, fields = form_of(b"<img src=x onerror='alert(1)'>&\x1b[31m")
    page = upload.request("/upload", "POST", fields + HTML, body)
    assert page.status == 200
    assert ("&lt;img src=x onerror=&#39;alert(1)&#39;&gt;&amp;?[31m"
            in page.text)
    assert "<img" not in page.text
    assert "default-src 'none'" in page.get("Content-Security-Policy")
    plain = upload.request("/upload", "POST", fields, body)
    assert plain.get("Content-Type") == "text/plain; charset=utf-8"
    assert "\x1b" not in plain.text


def test_a_form_that_is_none_gets_400(upload):
    body, fields = form_of(b"x")
    reply = upload.request("/upload", "POST", fields, body[:-6])
    assert (reply.status, reply.text) == (
        400, "This is not the form that its Content-Type says.\n")
    body, fields = form_of(b"")
    reply = upload.request("/upload", "POST", fields, body.replace(b"abc", b""))
    assert (reply.status, reply.text) == (
        400, "There is no file in this form.\n")


def test_the_body_limit_holds(upload):
    limit = 6 << 20
    assert upload.request("/upload", "POST", body=block(limit)).status == 200
    for more in (["-H", "Expect:"], ["-H", "Transfer-Encoding: chunked",
                                     "-H", "Expect:"]):
        status = subprocess.run(
            ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", *more,
             "--data-binary", "@-",
             f"http://127.0.0.1:{upload.port}/upload"],
            input=block(limit + 1), stdout=subprocess.PIPE,
            check=False).stdout
        assert status == b"413"


def test_upload_shows_its_form(upload):
    page = upload.request("/upload", fields=HTML)
    assert page.status == 200
    assert 'enctype="multipart/form-data"' in page.text
    assert '<input type="file"' in page.text


# README

def test_the_tour_of_readme_does_what_it_says(site):
    """Its commands as they stand there, but for the port."""
    server = site()
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as f:
        tour = f.read().split("## The example site")[1].split("\n## ")[0]
    commands = re.findall(r"^    (.*127\.0\.0\.1:8080/\w+.*)$", tour, re.M)
    commands = [c for c in commands if not c.startswith("ready ")]
    assert len(commands) == 4

    def run(command):
        done = subprocess.run(
            ["sh", "-c", command.replace(":8080", f":{server.port}")],
            cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout.decode()

    assert run(commands[0]).startswith("visits of /visits: 1\n")
    assert run(commands[1]).startswith("visits of /visits: 2\n")
    with open(os.path.join(ROOT, "README.md"), "rb") as f:
        data = f.read()
    assert run(commands[2]) == answer(None, data)
    assert len(re.findall(r"^Slept \d+\.\d ms \(asked for 3000\)\.$",
                          run(commands[3]), re.M)) == 40
    assert app(server.request("/status.json").json,
               "slow")["threads_high"] >= 40


# /status

def burst(server, n, ms):
    """N calls of /slow at once, all under way when this returns; an end."""
    wires = [server.wire(timeout=60) for _ in range(n)]
    for i, wire in enumerate(wires):
        wire.ask(f"/slow?ms={ms}&call={i}")

    def finish():
        for wire in wires:
            assert wire.reply().status == 200
            wire.close()
    return finish


def app(state, name):
    return next(m for m in state["modules"] if m["name"] == name)


def test_status_tells_what_the_modules_do(site):
    server = site()
    reply = server.request("/status.json")
    assert (reply.status, reply.get("Content-Type")) == (
        200, "application/json")
    assert [m["name"] for m in reply.json["modules"]] == \
        re.findall(r"^module (\w+) ", site_conf(server.build), re.M)
    finish = burst(server, 12, 2000)
    slow = until(lambda: (lambda a: a["in_flight"] == 12
                          and a["threads"] >= 12 and a)(
        app(server.request("/status.json").json, "slow")))
    assert slow["threads_high"] >= 12
    finish()
    slow = until(lambda: (lambda a: a["in_flight"] == 0 and a)(
        app(server.request("/status.json").json, "slow")))
    assert slow["calls"] == 12

    # The page has the same in its table, without any script.
    row = re.search(r'<tr><th scope="row">slow</th>(.*)</tr>',
                    server.request("/status").text).group(1)
    cells = dict(re.findall(r'data-title="([^"]+)">([^<]*)<', row))
    assert cells["State"] == "running"
    assert cells["Calls"] == "12"
    assert int(cells["At most"]) >= 12
    assert (cells["In flight"], cells["Last end"]) == ("0", "–")


def test_status_sees_a_killed_app(site):
    server = site()
    start = server.lines()
    os.kill(program(server, "hello"), signal.SIGKILL)
    server.wait_log(r"event=door-open module=hello", start=start)
    # A door may be dialled once more before the dead program's socket is closed.
    hello = until(lambda: next(
        (a for a in [app(server.request("/status.json").json, "hello")]
         if a["restarts"] == 1), None), what="the restart")
    assert hello["last_cause"] == "signal-KILL"


@pytest.fixture(scope="module")
def browsers():
    why = missing()
    if why:
        pytest.skip(why)
    opened = {}

    def get(javascript=True):
        if javascript not in opened:
            opened[javascript] = Browser(javascript)
        return opened[javascript]
    yield get
    for browser in opened.values():
        browser.close()


CELL = """
const row = [...document.querySelectorAll("#modules tbody tr")]
    .find((r) => r.cells[0].textContent === "slow");
return [...row.cells].slice(1).map((c) => c.textContent);
"""


def test_the_status_page_is_live_in_a_browser(site, browsers):
    server = site()
    browser = browsers()
    browser.open(server.url + "status")
    # State, threads, at most, in flight, calls
    assert browser.script(CELL)[3:5] == ["0", "0"]
    finish = burst(server, 12, 3000)
    cells = until(lambda: (lambda c: c[3] == "12" and int(c[1]) >= 12 and c)(
        browser.script(CELL)), what="12 calls in flight on the page")
    assert int(cells[2]) >= 12
    finish()
    until(lambda: browser.script(CELL)[3:5] == ["0", "12"],
          what="the end of the calls on the page")
    assert browser.script(
        "return document.getElementById('when').textContent") == \
        "Live: asked once a second."

    # The button does the same from within.
    browser.script("document.getElementById('go').click()")
    until(lambda: browser.script(CELL)[4] == "17", what="five more calls")
    assert browser.errors() == []

    # A server that is gone is told.
    server.stop()
    until(lambda: browser.script(
        "return document.getElementById('when').textContent").startswith(
            "Cardea does not answer."), what="the word that it is gone")


def test_the_pages_fit_a_telephone_and_load_nothing_from_elsewhere(site,
                                                                   browsers):
    server = site()
    browser = browsers()
    browser.open("about:blank")
    browser.errors()  # of the page before
    for width in (360, 1200):
        browser.width(width)
        for path in ("", "visits", "upload", "status", "env"):
            browser.open(server.url + path)
            assert browser.script("return document.documentElement"
                                  ".scrollWidth") <= width, path
            hosts = browser.script(
                "return performance.getEntriesByType('resource')"
                ".map((e) => new URL(e.name).host)")
            assert {h for h in hosts if not h.endswith(
                f".localhost:{server.port}")} <= {f"127.0.0.1:{server.port}"}
            assert browser.errors() == []


def test_the_pages_work_without_javascript(site, browsers):
    server = site()
    browser = browsers(javascript=False)
    browser.open(server.url + "status")
    page = browser.html()
    assert "read them again" in page
    assert page.count('<th scope="row">') == 6
