"""HTTP/1.1 as a client sees it: what is answered, and what is refused."""

import email.utils
import os
import re
import time

import pytest

CONF = """
set header-timeout 10s

module hello { run "$PROGRAMS/hello" }
module echo  { run "$PROGRAMS/echo" }
module reply { run "$PROGRAMS/reply" }

forward http 127.0.0.1:$PORT to {
    map GET    /hello to hello
    map GET    /reply to reply
    map POST   /reply to reply
    map GET    /echo  to echo
    map POST   /echo  to echo
    map PUT    /echo  to echo
    map DELETE /only/delete to echo
}
"""


@pytest.fixture(scope="module")
def server(shared):
    return shared(CONF)


@pytest.fixture
def wire(server):
    with server.wire() as connection:
        yield connection


def test_hello_answers(server):
    reply = server.request("/hello")
    assert reply.status == 200
    assert reply.body == b"Well, hello to you too!\n"
    assert reply.get("Content-Length") == "24"
    assert reply.get("Content-Type") == "text/plain; charset=utf-8"


def test_the_url_it_prints_is_the_one_to_open(server):
    assert server.url == f"http://127.0.0.1:{server.port}/"


def test_head_has_the_length_and_no_body(wire):
    reply = wire.request("/hello", method="HEAD")
    assert (reply.status, reply.get("Content-Length")) == (200, "24")
    wire.assert_open()


def test_one_connection_serves_many_requests(wire):
    for _ in range(20):
        assert wire.request("/hello").body == b"Well, hello to you too!\n"


def test_100_pipelined_requests_are_answered_in_order(wire):
    wire.send("".join(f"GET /reply?text={n} HTTP/1.1\r\nHost: a\r\n\r\n"
                      for n in range(100)))
    assert [wire.reply().text for _ in range(100)] == \
        [str(n) for n in range(100)]


def test_pipelined_requests_of_two_modules_are_answered_in_order(wire):
    wire.send("".join(
        f"GET /reply?text={n} HTTP/1.1\r\nHost: a\r\n\r\n"
        f"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{n:02}"
        for n in range(20)))
    got = [wire.reply().text for _ in range(40)]
    assert got == [t for n in range(20) for t in (str(n), f"{n:02}")]


def test_a_body_with_a_length_arrives(wire):
    assert wire.request("/echo", "POST", body=b"abc").body == b"abc"


def test_an_empty_body_is_a_body(wire):
    assert wire.request("/echo", "POST", body=b"").body == b""


@pytest.mark.parametrize("size", [1, 4095, 4096, 4097, 65536, 1000003])
def test_a_body_of_many_segments_arrives_whole(wire, size):
    body = bytes(i * 7 % 251 for i in range(min(size, 5021)))
    body = (body * (size // len(body) + 1))[:size]
    assert wire.request("/echo", "POST", body=body).body == body
    wire.assert_open()


def test_a_body_that_is_put_arrives(wire):
    reply = wire.request("/echo", "PUT", body=b"put")
    assert (reply.body, reply.get("X-Method")) == (b"put", "PUT")


CHUNKED = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("chunks, body", [
    ("0\r\n\r\n", b""),
    ("3\r\nabc\r\n0\r\n\r\n", b"abc"),
    ("1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", b"abc"),
    ("003\r\nabc\r\n000\r\n\r\n", b"abc"),
    ("A\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
    ("3;name=value\r\nabc\r\n0;last\r\n\r\n", b"abc"),
    ("3\r\nabc\r\n0\r\nX-Trailer: dropped\r\n\r\n", b"abc"),
    ("3\r\n\r\n\0\r\n0\r\n\r\n", b"\r\n\0"),
])
def test_a_chunked_body_arrives(wire, chunks, body):
    wire.send(CHUNKED + chunks)
    reply = wire.reply()
    assert (reply.status, reply.body) == (200, body)
    wire.assert_open()


def test_a_large_chunked_body_arrives_whole(wire):
    body = os.urandom(300000)
    wire.send(CHUNKED)
    for at in range(0, len(body), 7001):
        part = body[at:at + 7001]
        wire.send(b"%x\r\n%s\r\n" % (len(part), part))
    wire.send("0\r\n\r\n")
    assert wire.reply().body == body
    wire.assert_open()


@pytest.mark.parametrize("request_bytes", [
    "GET /reply?text=abc HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
    CHUNKED + "2\r\nab\r\n1;x=y\r\nc\r\n0\r\nT: v\r\n\r\n",
])
def test_a_request_byte_by_byte_is_the_same_request(wire, request_bytes):
    for byte in request_bytes:
        wire.send(byte)
    assert wire.reply().body == b"abc"
    wire.assert_open()


def test_expect_100_continue_is_answered_before_the_body(wire):
    wire.send("POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
              "Content-Length: 3\r\n\r\n")
    assert wire.interim().status == 100
    wire.send("abc")
    assert wire.reply().body == b"abc"
    wire.assert_open()


def test_expect_is_answered_at_once_when_the_request_is_refused(wire):
    wire.send("POST /nothing HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
              "Content-Length: 3\r\n\r\n")
    assert wire.reply().status == 404


def test_any_other_expectation_is_417(wire):
    wire.send("GET /hello HTTP/1.1\r\nHost: a\r\nExpect: cake\r\n\r\n")
    assert wire.reply().status == 417
    wire.assert_closed()


def test_empty_lines_before_a_request_are_skipped(wire):
    wire.send("\r\n\r\nGET /hello HTTP/1.1\r\nHost: a\r\n\r\n")
    assert wire.reply().status == 200


def test_connection_close_is_honoured(wire):
    reply = wire.request("/hello", fields=["Connection: close"])
    assert reply.get("Connection").lower() == "close"
    wire.assert_closed()


def test_http_1_0_closes(wire):
    wire.send("GET /hello HTTP/1.0\r\n\r\n")
    assert wire.reply().body == b"Well, hello to you too!\n"
    wire.assert_closed()


def test_http_1_0_can_ask_to_stay(wire):
    wire.send("GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert wire.reply().get("Connection").lower() == "keep-alive"
    wire.assert_open()


def test_a_client_that_half_closes_still_gets_its_answer(wire):
    wire.ask("/hello")
    wire.half_close()
    assert wire.reply().status == 200
    wire.assert_closed()


def test_absolute_form_is_understood(wire):
    wire.send("GET http://example.org/reply?text=x HTTP/1.1\r\n"
              "Host: example.org\r\n\r\n")
    assert wire.reply().body == b"x"


def test_absolute_form_overrides_nothing_else(wire):
    """RFC 9112 section 3.2.2: host and path come from the target."""
    wire.send("GET http://a/reply/b?c HTTP/1.1\r\nHost: a\r\n\r\n")
    told = asked(wire.reply())
    assert (told["host"], told["path"], told["query"]) == ("a", "/reply/b",
                                                           "c")
    wire.send("GET http://a HTTP/1.1\r\nHost: a\r\n\r\n")
    assert wire.reply().status == 404  # of "/", which has no map here


def test_options_of_the_server_itself(wire):
    wire.send("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n")
    reply = wire.reply()
    assert (reply.status, reply.body) == (204, b"")
    assert {"GET", "HEAD", "POST"} <= allowed(reply)
    wire.assert_open()


def test_only_options_asks_the_server_itself(wire):
    wire.send("GET * HTTP/1.1\r\nHost: a\r\n\r\n")
    assert wire.reply().status == 400
    wire.assert_closed()


@pytest.mark.parametrize("version, field, stays", [
    ("1.1", "", True), ("1.1", "Connection: keep-alive", True),
    ("1.1", "Connection: close", False),
    ("1.1", "connection: X, CLOSE", False),
    ("1.0", "", False), ("1.0", "Connection: close", False),
    ("1.0", "Connection: Keep-Alive", True),
    ("1.0", "Connection: keep-alive, close", False),
])
def test_connections_stay_as_version_and_field_say(wire, version, field,
                                                   stays):
    wire.send(f"GET /hello HTTP/{version}\r\nHost: a\r\n"
              + (field + "\r\n" if field else "") + "\r\n")
    reply = wire.reply()
    assert reply.body == b"Well, hello to you too!\n"
    says = (reply.get("Connection") or "").lower()
    if stays:
        assert says == ("keep-alive" if version == "1.0" else "")
        wire.assert_open()
    else:
        assert says == "close"
        wire.assert_closed()


# What a handler is told

def asked(reply):
    return dict(line.split(" ", 1) for line in reply.text.splitlines()
                if not line.startswith("field "))


def test_a_handler_is_told_what_was_asked(server):
    reply = server.request("/reply/a%20b/./c?x=1&y=%32")
    told = asked(reply)
    assert told["method"] == "GET"
    assert told["target"] == "/reply/a%20b/./c?x=1&y=%32"
    assert told["path"] == "/reply/a b/c"
    assert told["query"] == "x=1&y=%32"
    assert told["route"] == "/reply"
    assert told["rest"] == "/a b/c"
    assert told["host"] == "example.org"
    assert told["peer"] == "127.0.0.1"


def test_a_handler_sees_the_fields(server):
    reply = server.request("/reply", fields=["X-One: 1", "x-two:  a b "])
    lines = reply.text.splitlines()
    assert "field X-One: 1" in lines
    assert "field x-two: a b" in lines


def test_the_id_in_the_log_is_the_one_the_handler_saw(server):
    identity = asked(server.request("/reply?for=id"))["id"]
    server.wait_log(rf'event=request id={identity} .*target="/reply\?for=id"')


def test_a_handler_sets_status_and_fields(server):
    reply = server.request("/reply?status=418&name=X-Pot&value=tea&text=short")
    assert (reply.status, reply.get("X-Pot"), reply.body) == \
        (418, "tea", b"short")


@pytest.mark.parametrize("name, value", [
    ("Content-Length", "5"), ("Transfer-Encoding", "chunked"),
    ("Connection", "close"), ("Date", "now"), ("X-A", "a%0d%0aX-B:%20b"),
    ("X%20A", "b"), ("", "b"),
])
def test_a_handler_cannot_break_the_framing(server, name, value):
    with server.wire() as wire:
        reply = wire.request(f"/reply?name={name}&value={value}&text=end")
        assert reply.status == 200
        assert reply.body.endswith(b"end")
        assert reply.get("X-B") is None
        wire.assert_open()


def test_a_reply_of_a_megabyte_arrives_whole(server):
    reply = server.request("/reply?size=1048576")
    assert reply.body == b"x" * 1048576


# Fields of every reply

def test_date_is_now(server):
    date = server.request("/hello").get("Date")
    parsed = email.utils.parsedate_to_datetime(date)
    assert abs(parsed.timestamp() - time.time()) < 10
    assert date == email.utils.format_datetime(parsed, usegmt=True)


def test_an_error_page_has_a_date_too(server):
    assert server.request("/nothing").get("Date")


@pytest.mark.parametrize("status", [204, 304])
def test_statuses_without_a_body_have_none(wire, status):
    reply = wire.request(f"/reply?status={status}&text=lost")
    assert reply.status == status
    wire.assert_open()


# Refusals after which the connection may stay

def test_no_such_path_is_404(server):
    assert server.request("/nothing").status == 404


def test_a_prefix_ends_at_a_path_boundary(server):
    assert server.request("/hello/there").status == 200
    assert server.request("/hellothere").status == 404


def allowed(reply):
    return {m.strip() for m in reply.get("Allow").split(",")}


def test_a_wrong_method_is_405_with_allow(server):
    reply = server.request("/hello", "DELETE")
    assert (reply.status, allowed(reply)) == (405, {"GET", "HEAD"})


def test_allow_names_every_method_of_the_path(server):
    reply = server.request("/echo", "DELETE")
    assert (reply.status, allowed(reply)) == \
        (405, {"GET", "HEAD", "POST", "PUT"})


def test_an_unknown_method_is_405(server):
    assert server.request("/hello", "BREW").status == 405


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_no_length_and_no_chunks_is_411(server, method):
    assert server.request("/echo", method).status == 411


@pytest.mark.parametrize("line", [
    "CONNECT example.org:443 HTTP/1.1",
    "TRACE /hello HTTP/1.1",
])
def test_connect_and_trace_are_501(wire, line):
    wire.send(line + "\r\nHost: example.org:443\r\n\r\n")
    assert wire.reply().status == 501


@pytest.mark.parametrize("coding", ["gzip", "gzip, chunked"])
def test_a_transfer_coding_we_lack_is_501_and_closes(wire, coding):
    wire.send("POST /echo HTTP/1.1\r\nHost: a\r\n"
              f"Transfer-Encoding: {coding}\r\n\r\n0\r\n\r\n")
    assert wire.reply().status == 501
    wire.assert_closed()


def test_another_major_version_is_505(wire):
    wire.send("GET /hello HTTP/2.0\r\nHost: a\r\n\r\n")
    assert wire.reply().status == 505
    wire.assert_closed()


# Limits of the head

def test_a_target_over_8_kib_is_414(wire):
    wire.send("GET /" + "a" * 9000 + " HTTP/1.1\r\nHost: a\r\n\r\n")
    assert wire.reply().status == 414
    wire.assert_closed()


@pytest.mark.parametrize("fields", [
    "X: " + "a" * 9000 + "\r\n",
    "X: a\r\n" * 101,
    ("X: " + "a" * 8000 + "\r\n") * 5,
], ids=["line", "number", "sum"])
def test_a_head_over_the_limits_is_431(wire, fields):
    wire.send("GET /hello HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n")
    assert wire.reply().status == 431
    wire.assert_closed()


def test_a_head_just_under_the_limits_is_served(wire):
    fields = ["X: " + "a" * 7000] * 4 + ["Y: b"] * 90
    assert wire.request("/hello", fields=fields).status == 200


# Smuggling: whatever two servers could read in two ways is 400 and the end

def with_fields(*fields, body="", method="POST", target="/echo",
                version="HTTP/1.1", host="Host: a\r\n"):
    return (f"{method} {target} {version}\r\n{host}"
            + "".join(f + "\r\n" for f in fields) + "\r\n" + body)


LAST = "0\r\n\r\n"
HEADS = {
    "length and chunked": with_fields(
        "Content-Length: 5", "Transfer-Encoding: chunked", body=LAST),
    "chunked and length": with_fields(
        "Transfer-Encoding: chunked", "Content-Length: 5", body=LAST),
    "length twice, the same": with_fields(
        "Content-Length: 3", "Content-Length: 3", body="abc"),
    "length twice, different": with_fields(
        "Content-Length: 3", "Content-Length: 30", body="abc"),
    "length as a list": with_fields("Content-Length: 3, 3", body="abc"),
    "length with a plus": with_fields("Content-Length: +3", body="abc"),
    "length with a minus": with_fields("Content-Length: -3", body="abc"),
    "length in hex": with_fields("Content-Length: 0x3", body="abc"),
    "length with an underscore": with_fields("Content-Length: 1_0",
                                             body="0123456789"),
    "length with a blank": with_fields("Content-Length: 3 3", body="abc"),
    "length of nothing": with_fields("Content-Length:", body="abc"),
    "length over 2^63": with_fields(
        "Content-Length: 9223372036854775808", body="abc"),
    "length over 2^64": with_fields(
        "Content-Length: 18446744073709551619", body="abc"),
    "chunked twice": with_fields("Transfer-Encoding: chunked, chunked",
                                 body=LAST),
    "chunked in two fields": with_fields(
        "Transfer-Encoding: chunked", "Transfer-Encoding: chunked",
        body=LAST),
    "chunked, then identity": with_fields(
        "Transfer-Encoding: chunked", "Transfer-Encoding: identity",
        body=LAST),
    "chunked not last": with_fields("Transfer-Encoding: chunked, gzip",
                                    body=LAST),
    "chunked with a parameter": with_fields(
        "Transfer-Encoding: chunked;q=1", body=LAST),
    "chunked in quotes": with_fields('Transfer-Encoding: "chunked"',
                                     body=LAST),
    "chunked after a vertical tab": with_fields(
        "Transfer-Encoding: \x0bchunked", body=LAST),
    "chunked in HTTP/1.0": with_fields("Transfer-Encoding: chunked",
                                       body=LAST, version="HTTP/1.0"),
    "coding of nothing": with_fields("Transfer-Encoding:", body=LAST),
    "folded coding": with_fields("Transfer-Encoding:\r\n chunked", body=LAST),
    "folded field": with_fields("X: a\r\n b", "Content-Length: 0"),
    "fold before the first field": with_fields(
        "Content-Length: 0", host=" X: a\r\nHost: a\r\n"),
    "blank before the colon": with_fields("Content-Length : 3", body="abc"),
    "tab before the colon": with_fields("Transfer-Encoding\t: chunked",
                                        body=LAST),
    "blank in a name": with_fields("X Y: a", "Content-Length: 0"),
    "no name": with_fields(": a", "Content-Length: 0"),
    "no colon": with_fields("X", "Content-Length: 0"),
    "bare LF ends a field": with_fields("X: a\nContent-Length: 0"),
    "bare LF ends the head":
        "GET /hello HTTP/1.1\nHost: a\n\n",
    "bare LF ends the request line":
        "GET /hello HTTP/1.1\nHost: a\r\n\r\n",
    "bare CR in a value": with_fields("X: a\rContent-Length: 3",
                                      "Content-Length: 0"),
    "bare CR in the request line":
        "GET /hello\r HTTP/1.1\r\nHost: a\r\n\r\n",
    "NUL in a value": with_fields("X: a\0b", "Content-Length: 0"),
    "NUL in a name": with_fields("X\0: a", "Content-Length: 0"),
    "control byte in a value": with_fields("X: a\x01b", "Content-Length: 0"),
    "DEL in a value": with_fields("X: a\x7fb", "Content-Length: 0"),
    "no Host": with_fields("Content-Length: 0", host=""),
    "two Hosts": with_fields("Host: b", "Content-Length: 0"),
    "a Host with a path": with_fields("Content-Length: 0",
                                      host="Host: a/b\r\n"),
    "a Host with a user": with_fields("Content-Length: 0",
                                      host="Host: u@a\r\n"),
    "a Host with a blank": with_fields("Content-Length: 0",
                                       host="Host: a b\r\n"),
    "Host and target differ": with_fields("Content-Length: 0",
                                          target="http://b/echo"),
    "two blanks before the target":
        "GET  /hello HTTP/1.1\r\nHost: a\r\n\r\n",
    "two blanks before the version":
        "GET /hello  HTTP/1.1\r\nHost: a\r\n\r\n",
    "a blank after the version":
        "GET /hello HTTP/1.1 \r\nHost: a\r\n\r\n",
    "a blank before the method":
        " GET /hello HTTP/1.1\r\nHost: a\r\n\r\n",
    "tabs in the request line":
        "GET\t/hello\tHTTP/1.1\r\nHost: a\r\n\r\n",
    "no version": "GET /hello\r\n\r\n",
    "small letters in the version":
        "GET /hello http/1.1\r\nHost: a\r\n\r\n",
    "a version of three digits":
        "GET /hello HTTP/1.10\r\nHost: a\r\n\r\n",
    "a method that is no token":
        "G(T /hello HTTP/1.1\r\nHost: a\r\n\r\n",
    "a target without a slash":
        "GET hello HTTP/1.1\r\nHost: a\r\n\r\n",
    "a fragment in the target":
        "GET /hello#a HTTP/1.1\r\nHost: a\r\n\r\n",
    "a control byte in the target":
        "GET /hel\x01lo HTTP/1.1\r\nHost: a\r\n\r\n",
}
SMUGGLED = "GET /reply?text=smuggled HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize("vector", HEADS.values(), ids=HEADS.keys())
def test_an_ambiguous_head_is_400_and_the_end(wire, vector):
    wire.send(vector + SMUGGLED)
    assert wire.reply().status == 400
    wire.assert_closed()


CHUNKS = {
    "size with a plus": "+3\r\nabc\r\n" + LAST,
    "size with a minus": "-3\r\nabc\r\n" + LAST,
    "size with 0x": "0x3\r\nabc\r\n" + LAST,
    "size with an underscore": "0_3\r\nabc\r\n" + LAST,
    "blank before the size": " 3\r\nabc\r\n" + LAST,
    "no size": "\r\nabc\r\n" + LAST,
    "size that is no number": "g\r\nabc\r\n" + LAST,
    "size of 17 digits": "1" + "0" * 15 + "3\r\nabc\r\n" + LAST,
    "bare LF after the size": "3\nabc\r\n" + LAST,
    "bare CR after the size": "3\rabc\r\n" + LAST,
    "bare LF in an extension": "3;a\nb\r\nabc\r\n" + LAST,
    "NUL in an extension": "3;a\0b\r\nabc\r\n" + LAST,
    "endless extension": "3;" + "a" * 3000 + "\r\nabc\r\n" + LAST,
    "data without its CRLF": "3\r\nabc" + LAST,
    "data with a bare LF": "3\r\nabc\n" + LAST,
    "data longer than its size": "3\r\nabcd\r\n" + LAST,
    "trailer with a blank before the colon": "0\r\nX : a\r\n\r\n",
    "folded trailer": "0\r\nX: a\r\n b\r\n\r\n",
    "bare LF after a trailer": "0\r\nX: a\n\r\n",
    "endless trailers": "0\r\n" + "X: aaaaaaaaaaaaaaaa\r\n" * 2000 + "\r\n",
}


@pytest.mark.parametrize("vector", CHUNKS.values(), ids=CHUNKS.keys())
def test_ambiguous_chunks_are_400_and_the_end(wire, vector):
    wire.send(CHUNKED + vector + SMUGGLED)
    assert wire.reply().status == 400
    wire.assert_closed()


def test_a_body_of_a_refused_request_is_not_a_request(wire):
    body = SMUGGLED.encode()
    wire.ask("/nothing", "POST", body=body)
    assert wire.reply("POST").status == 404
    # Either the body is dropped and the connection serves on, or it ends.
    try:
        wire.ask("/hello")
        reply = wire.reply()
    except (AssertionError, OSError):
        wire.buffer = b""
        wire.assert_closed()
    else:
        assert reply.body == b"Well, hello to you too!\n"


@pytest.mark.parametrize("path", [
    "/hello%2fx", "/hello%00", "/hello\\x", "/hello%5cx", "/hello%zz",
    "/hello%", "/../hello", "/hello/../../x", "/hello/%2e%2e/%2e%2e/x",
    "/hello%c0%af", "/hello%ff",
])
def test_a_path_that_hides_something_is_400(server, path):
    assert server.request(path).status == 400


@pytest.mark.parametrize("path", ["//hello", "/./hello", "/x/../hello",
                                  "/%68ello", "/hello/"])
def test_a_path_is_tidied_before_it_is_routed(server, path):
    assert server.request(path).status == 200


def test_the_log_never_says_that_a_call_took_no_time(cardea):
    server = cardea("""
        module hello { run "$PROGRAMS/hello" }
        forward http 127.0.0.1:$PORT to {
            map GET /      to hello
            map GET /files to files "$DIR"
        }
    """)
    with server.wire() as wire:
        for _ in range(200):
            assert wire.request("/").status == 200
            assert wire.request("/files/cardea.conf").status == 200
    server.stop()
    lines = [line for line in server.log if "event=request" in line]
    runs = [re.search(r"run_ms=(\S+) copy=\d+ total_ms=(\S+)$", line).groups()
            for line in lines if "module=hello" in line]
    assert len(runs) == 200
    assert all(0 < float(run) <= float(total) for run, total in runs), runs
    files = [re.search(r"total_ms=(\S+)$", line).group(1)
             for line in lines if " files=" in line]
    assert len(files) == 200 and all(float(ms) > 0 for ms in files), files
