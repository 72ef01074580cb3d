"""Plain files: what is sent, and that nothing outside the folder is."""

import os

import pytest

CONF = """
forward http 127.0.0.1:$PORT to {
    map GET / to files "$DIR/www"
    map GET /sub/mount to files "$DIR/www/docs"
}
"""
SECRET = b"nobody may read this\n"
PAGE = b"<!doctype html><title>x</title>\n"
BIG = bytes(i % 251 for i in range(700001))


@pytest.fixture(scope="module")
def server(shared, shared_folder):
    def put(name, data):
        path = os.path.join(shared_folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as f:
            f.write(data)

    put("secret.txt", SECRET)
    put("www/index.html", PAGE)
    put("www/style.css", b"a {}\n")
    put("www/with space.txt", b"space\n")
    put("www/empty", b"")
    put("www/big.bin", BIG)
    put("www/docs/index.html", b"docs\n")
    put("www/docs/a.txt", b"a\n")
    put("www/bare/x.txt", b"x\n")
    www = os.path.join(shared_folder, "www")
    os.symlink("../secret.txt", os.path.join(www, "link.txt"))
    os.symlink(shared_folder, os.path.join(www, "up"))
    os.mkfifo(os.path.join(www, "fifo"))
    return shared(CONF)


@pytest.mark.parametrize("path, kind", [
    ("/index.html", "text/html"), ("/style.css", "text/css"),
    ("/docs/a.txt", "text/plain"), ("/big.bin", "application/octet-stream"),
])
def test_the_type_follows_the_name(server, path, kind):
    reply = server.request(path)
    assert reply.status == 200
    assert reply.get("Content-Type").split(";")[0] == kind


def test_a_file_is_sent_whole_with_its_length(server):
    reply = server.request("/big.bin")
    assert reply.get("Content-Length") == str(len(BIG))
    assert reply.body == BIG


def test_an_empty_file_is_a_file(server):
    reply = server.request("/empty")
    assert (reply.status, reply.body) == (200, b"")


def test_a_name_may_be_escaped(server):
    assert server.request("/with%20space.txt").body == b"space\n"


def test_head_of_a_file_has_its_length_and_no_body(server):
    with server.wire() as wire:
        reply = wire.request("/big.bin", method="HEAD")
        assert reply.get("Content-Length") == str(len(BIG))
        wire.assert_open("/index.html")


# Conditions (RFC 9110 section 13) and parts (section 14)

@pytest.mark.parametrize("wanted, first, last", [
    ("0-0", 0, 0), ("0-99", 0, 99), ("5-", 5, 700000), ("-1", 700000, 700000),
    ("-100", 699901, 700000), ("699990-9999999", 699990, 700000),
    ("-9999999", 0, 700000),
])
def test_a_part_of_a_file_is_206(server, wanted, first, last):
    with server.wire() as wire:
        reply = wire.request("/big.bin", fields=[f"Range: bytes={wanted}"])
        assert reply.status == 206
        assert reply.get("Content-Range") == f"bytes {first}-{last}/700001"
        assert reply.body == BIG[first:last + 1]
        assert wire.request("/style.css").body == b"a {}\n"


@pytest.mark.parametrize("wanted", ["700001-", "9999999-99999999", "-0"])
def test_a_part_that_is_not_there_is_416(server, wanted):
    reply = server.request("/big.bin", fields=[f"Range: bytes={wanted}"])
    assert (reply.status, reply.get("Content-Range")) == \
        (416, "bytes */700001")


@pytest.mark.parametrize("wanted", [
    "bytes=9-1", "bytes=a-b", "bytes", "lines=0-1", "bytes=", "bytes=--1",
])
def test_a_part_that_is_no_part_is_ignored(server, wanted):
    reply = server.request("/big.bin", fields=[f"Range: {wanted}"])
    assert (reply.status, len(reply.body)) == (200, len(BIG))


def test_whole_files_say_that_parts_are_to_be_had(server):
    assert server.request("/big.bin").get("Accept-Ranges") == "bytes"


def test_an_etag_saves_a_second_sending(server):
    first = server.request("/style.css")
    etag = first.get("ETag")
    assert etag
    with server.wire() as wire:
        again = wire.request("/style.css", fields=[f"If-None-Match: {etag}"])
        assert (again.status, again.body) == (304, b"")
        assert again.get("ETag") == etag
        assert again.get("Content-Length") in (None, "5")
        # Nothing of a body stands between the replies.
        assert wire.request("/style.css", fields=[
            'If-None-Match: "other"']).body == b"a {}\n"
        assert wire.request("/style.css", fields=[
            f'If-None-Match: "x", {etag}']).status == 304


def test_a_date_saves_a_second_sending(server):
    modified = server.request("/style.css").get("Last-Modified")
    assert server.request("/style.css", fields=[
        f"If-Modified-Since: {modified}"]).status == 304
    assert server.request("/style.css", fields=[
        "If-Modified-Since: Thu, 01 Jan 1970 00:00:01 GMT"]).status == 200


def test_a_wrong_etag_is_412_where_one_is_demanded(server):
    etag = server.request("/style.css").get("ETag")
    assert server.request("/style.css", fields=[
        'If-Match: "other"']).status == 412
    assert server.request("/style.css", fields=[
        f"If-Match: {etag}"]).status in (200, 412)  # 412: a weak one


def test_a_part_of_another_version_is_the_whole_file(server):
    """If-Range (RFC 9110 section 13.1.5): a strong ETag that is the file's
    gives the part, any other the whole."""
    etag = server.request("/big.bin").get("ETag")
    same = server.request("/big.bin", fields=[
        "Range: bytes=0-9", f"If-Range: {etag}"])
    assert same.status == (200 if etag.startswith("W/") else 206)
    other = server.request("/big.bin", fields=[
        "Range: bytes=0-9", 'If-Range: "other"'])
    assert (other.status, other.body) == (200, BIG)


def test_an_etag_changes_with_the_file(server, shared_folder):
    path = os.path.join(shared_folder, "www", "changes.txt")
    with open(path, "w", encoding="ascii") as f:
        f.write("one\n")
    first = server.request("/changes.txt")
    with open(path, "w", encoding="ascii") as f:
        f.write("two, longer\n")
    again = server.request("/changes.txt", fields=[
        f"If-None-Match: {first.get('ETag')}"])
    assert (again.status, again.text) == (200, "two, longer\n")
    assert again.get("ETag") != first.get("ETag")


def test_files_are_pipelined_in_order(server):
    with server.wire() as wire:
        wire.send("".join(f"GET {p} HTTP/1.1\r\nHost: a\r\n\r\n" for p in
                          ("/big.bin", "/style.css", "/big.bin", "/empty")))
        assert [wire.reply().body for _ in range(4)] == \
            [BIG, b"a {}\n", BIG, b""]


def test_a_folder_gives_its_index(server):
    assert server.request("/").body == PAGE
    assert server.request("/docs/").body == b"docs\n"


def test_a_folder_without_its_slash_is_301(server):
    reply = server.request("/docs")
    assert reply.status == 301
    assert reply.get("Location").endswith("/docs/")


def test_a_folder_without_an_index_is_not_listed(server):
    reply = server.request("/bare/")
    assert reply.status in (403, 404)
    assert b"x.txt" not in reply.body


def test_the_longest_prefix_wins(server):
    assert server.request("/sub/mount/a.txt").body == b"a\n"


def test_no_such_file_is_404(server):
    assert server.request("/nothing.html").status == 404
    assert server.request("/index.html/x").status == 404


def test_a_file_cannot_be_posted_to(server):
    reply = server.request("/index.html", "POST", body=b"x")
    assert reply.status == 405


@pytest.mark.parametrize("path", [
    "/../secret.txt", "/docs/../../secret.txt", "/%2e%2e/secret.txt",
    "/..%2fsecret.txt", "/..%5csecret.txt", "/..\\secret.txt",
    "/%2e%2e%2fsecret.txt", "/%252e%252e/secret.txt", "/..;/secret.txt",
    "/.%2e/secret.txt", "/docs/..%2f..%2fsecret.txt", "/%c0%ae%c0%ae/secret.txt",
    "/../../../../../../../etc/passwd", "//etc/passwd", "///etc/passwd",
    "/docs%00/../../secret.txt", "/secret.txt%00.html", "/%u002e%u002e/secret.txt",
    "/docs/.../secret.txt", "/..", "/../", "/.",
])
def test_no_way_out_of_the_folder(server, path):
    reply = server.request(path)
    assert reply.status in (200, 301, 400, 403, 404)
    assert SECRET not in reply.body
    assert b"root:" not in reply.body
    if reply.status == 200:
        assert reply.body == PAGE


@pytest.mark.parametrize("path", ["/link.txt", "/up/secret.txt"])
def test_a_symbolic_link_is_no_way_out(server, path):
    reply = server.request(path)
    assert reply.status in (403, 404)
    assert SECRET not in reply.body


def test_what_is_no_file_is_not_opened(server):
    assert server.request("/fifo").status in (403, 404)


def test_sending_files_leaves_no_descriptor_open(server):
    worker = server.workers()[0]
    server.request("/big.bin")
    before = server.fds(worker)
    for _ in range(50):
        assert server.request("/big.bin").status == 200
        assert server.request("/nothing.html").status == 404
    # A connection or two may still be closing.
    assert server.fds(worker) <= before + 4
