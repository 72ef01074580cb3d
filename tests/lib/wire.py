"""HTTP as bytes: a socket that sends what it is told, and a reader of replies
that forgives nothing. What a client library would mend or hide is seen here."""

import json
import re
import socket

STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5][0-9]{2}) ([\t\x20-\x7e]*)")
FIELD_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*"
                        rb"([\t\x20-\x7e\x80-\xff]*?)[ \t]*")
CHUNK_LINE = re.compile(rb"([0-9a-fA-F]{1,16})")


class Broken(AssertionError):
    """The bytes are not what HTTP/1.1 allows a server to send."""


class Reply:
    """One whole reply."""

    def __init__(self, status, reason, fields):
        self.status = status
        self.reason = reason
        self.fields = fields
        self.body = b""

    def all(self, name):
        return [v for n, v in self.fields if n.lower() == name.lower()]

    def get(self, name):
        """Value of the only field of that name; None: there is none."""
        values = self.all(name)
        if len(values) > 1:
            raise Broken(f"{name} comes {len(values)} times")
        return values[0] if values else None

    @property
    def text(self):
        return self.body.decode("utf-8")

    @property
    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"<{self.status} {self.fields} {self.body[:200]!r}>"


class Wire:
    """One connection. Each wait ends after TIMEOUT seconds with an error."""

    def __init__(self, port, host="127.0.0.1", timeout=15, room=None,
                 source=None):
        """ROOM: bytes that the kernel may hold for us unread (about). SOURCE:
        our own address."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.settimeout(timeout)
        if room:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        if source:
            self.socket.bind((source, 0))
        self.socket.connect((host, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.port = self.socket.getsockname()[1]  # our own
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def reset(self):
        """Leaves without a good-bye: the server gets a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                               b"\1\0\0\0\0\0\0\0")
        self.socket.close()

    def half_close(self):
        self.socket.shutdown(socket.SHUT_WR)

    def send(self, data):
        """DATA as it is; text is taken as Latin-1."""
        if isinstance(data, str):
            data = data.encode("latin-1")
        self.socket.sendall(data)

    def ask(self, target="/", method="GET", fields=(), body=None):
        """Sends one request with Host and, with a body, Content-Length."""
        lines = [f"{method} {target} HTTP/1.1", "Host: example.org", *fields]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        self.send("\r\n".join(lines) + "\r\n\r\n")
        if body:
            self.send(body)

    def request(self, target="/", method="GET", fields=(), body=None):
        """One request and its (final) reply."""
        self.ask(target, method, fields, body)
        return self.reply(method)

    def _more(self):
        """More bytes into the buffer; False: the server closed."""
        data = self.socket.recv(65536)
        self.buffer += data
        return bool(data)

    def _line(self):
        while b"\n" not in self.buffer:
            if not self._more():
                raise Broken(f"closed within a line: {self.buffer[:200]!r}")
        line, self.buffer = self.buffer.split(b"\n", 1)
        if not line.endswith(b"\r") or b"\r" in line[:-1]:
            raise Broken(f"a line that does not end with CRLF: {line!r}")
        return line[:-1]

    def _exactly(self, n):
        if len(self.buffer) >= n:
            data, self.buffer = self.buffer[:n], self.buffer[n:]
            return data
        data = bytearray(n)
        view, at = memoryview(data), len(self.buffer)
        data[:at] = self.buffer
        self.buffer = b""
        while at < n:
            got = self.socket.recv_into(view[at:], min(n - at, 1 << 20))
            if not got:
                raise Broken(f"closed {n - at} bytes too early")
            at += got
        return bytes(data)

    def _head(self):
        line = self._line()
        match = STATUS_LINE.fullmatch(line)
        if not match:
            raise Broken(f"no status line: {line!r}")
        fields = []
        while True:
            line_of_field = self._line()
            if not line_of_field:
                break
            field = FIELD_LINE.fullmatch(line_of_field)
            if not field:
                raise Broken(f"no field line: {line_of_field!r}")
            fields.append((field.group(1).decode(),
                           field.group(2).decode("latin-1")))
        return Reply(int(match.group(1)), match.group(2).decode(), fields)

    def _chunks(self):
        body = b""
        while True:
            line = self._line()
            match = CHUNK_LINE.fullmatch(line)
            if not match:
                raise Broken(f"no chunk size: {line!r}")
            size = int(match.group(1), 16)
            if size == 0:
                break
            body += self._exactly(size)
            if self._exactly(2) != b"\r\n":
                raise Broken("a chunk that does not end with CRLF")
        if self._line():
            raise Broken("trailers that nobody asked for")
        return body

    def interim(self):
        """The next head, which must be a 1xx."""
        reply = self._head()
        if reply.status >= 200:
            raise Broken(f"wanted 1xx, got {reply!r}")
        return reply

    def head(self):
        """The next head, which must be a final one; its body is the caller's
        to read."""
        reply = self._head()
        if reply.status < 200:
            raise Broken(f"an interim reply that nobody asked for: {reply!r}")
        return reply

    def reply(self, to="GET"):
        """The next reply, which must be a final one, to method TO."""
        reply = self.head()
        length = reply.get("Content-Length")
        coding = reply.get("Transfer-Encoding")
        if length is not None and not re.fullmatch(r"[0-9]+", length):
            raise Broken(f"Content-Length: {length}")
        if length is not None and coding is not None:
            raise Broken("Content-Length and Transfer-Encoding")
        if reply.status == 204 and (length or coding):
            raise Broken("204 with a length (RFC 9110 section 8.6)")
        if to == "HEAD" or reply.status in (204, 304):
            return reply
        if coding is not None:
            if coding.lower() != "chunked":
                raise Broken(f"Transfer-Encoding: {coding}")
            reply.body = self._chunks()
        elif length is not None:
            reply.body = self._exactly(int(length))
        else:
            if (reply.get("Connection") or "").lower() != "close":
                raise Broken("no length, and the connection stays open")
            while self._more():
                pass
            reply.body, self.buffer = self.buffer, b""
        return reply

    def assert_closed(self, clean=False):
        """The server sends nothing more and closes. CLEAN: with a good-bye; a
        reset may overtake the last reply."""
        try:
            while self._more():
                pass
        except ConnectionResetError:
            if clean:
                raise AssertionError("reset, not closed") from None
        except socket.timeout:
            raise AssertionError("the connection stays open") from None
        assert self.buffer == b"", f"and then came {self.buffer[:300]!r}"

    def assert_open(self, target="/hello"):
        """The connection still answers, and nothing stood in between."""
        assert self.request(target).status == 200
