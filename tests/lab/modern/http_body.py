"""The body of a request and of an answer, in chunks of bounded size."""

import tempfile
import zlib

PIECE = 1 << 18
# What an answer may hold in memory when it is to be complete before it is sent.
IN_MEMORY = 1 << 24


def unframed():
    """What reads compressed frames. Its packages are found only when the configuration is read."""
    from frames import Unframed

    return Unframed()


def frames_of(data):
    """The compressed frames that hold some bytes."""
    from frames import framed

    return framed(data)


class BrokenBody(Exception):
    """The client went away, or its body is not what its headers say."""


class RequestBody:
    """Reads `Content-Length` and chunked bodies, gzip, deflate and frames. Nothing is read before it is asked for."""

    def __init__(self, headers, source, framed):
        self._source = source
        self._chunked = "chunked" in headers.get("Transfer-Encoding", "").lower()
        self._left = 0 if self._chunked else int(headers.get("Content-Length") or 0)
        self.ended = not self._chunked and self._left == 0
        encoding = headers.get("Content-Encoding", "").lower()
        if encoding not in ("", "identity", "gzip", "deflate"):
            raise BrokenBody(f"Content-Encoding {encoding} is not supported here")
        self._inflate = zlib.decompressobj(wbits=47) if encoding in ("gzip", "deflate") else None
        self._frames = unframed() if framed else None

    def read(self):
        """The next bytes; empty at the end."""
        if self._frames is None:
            return self._read()
        # Statements of a client that frames its rows are in the query string.
        while piece := self._read():
            try:
                plain = self._frames.take(piece)
            except ValueError as error:
                raise BrokenBody(str(error)) from error
            if plain:
                return plain
        if not self._frames.is_whole:
            raise BrokenBody("the last compressed frame is cut off")
        return b""

    def _read(self):
        while not self.ended:
            raw = self._raw()
            if self._inflate is None:
                if raw:
                    return raw
                continue
            try:
                plain = self._inflate.decompress(raw) if raw else self._inflate.flush()
            except zlib.error as error:
                raise BrokenBody(f"cannot decompress the request: {error}") from error
            if plain:
                return plain
        if self._inflate is not None and not self._inflate.eof:
            raise BrokenBody("the compressed request is cut off")
        return b""

    def skip(self, most):
        """Reads on to the end, but no more than so many bytes; whether the end was reached."""
        while not self.ended and most > 0:
            most -= len(self._raw())
        return self.ended

    def _raw(self):
        if self._chunked and self._left == 0:
            line = self._source.readline(1024)
            try:
                self._left = int(line.split(b";")[0], 16)
            except ValueError:
                raise BrokenBody("a chunk of the request has no length") from None
            if self._left == 0:
                while self._source.readline(65536) not in (b"\r\n", b"\n", b""):
                    pass
                self.ended = True
                return b""
        piece = self._source.read1(min(self._left, PIECE))
        if not piece:
            raise BrokenBody(f"the request ends {self._left} bytes early")
        self._left -= len(piece)
        if self._left == 0:
            if self._chunked:
                self._source.readline(16)
            else:
                self.ended = True
        return piece


class Answer:
    """Sends headers with the first bytes, or, when `whole`, with the last: so long an error can still be a status."""

    def __init__(self, handler, headers, whole, gzip, framed):
        self._handler = handler
        self._headers = headers
        self._held = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY) if whole else None
        self._gzip = zlib.compressobj(wbits=31) if gzip and not framed else None
        self._framed = framed
        self.begun = False

    def write(self, data):
        """Takes bytes of the body."""
        if self._held is not None:
            self._held.write(data)
        elif data:
            self._begin()
            self._pack(data)

    def finish(self, more):
        """Ends the answer; `more` are headers that are only known now, and are sent if it is not too late."""
        self._headers.update(more)
        if self._held is not None:
            self._held.seek(0)
            held, self._held = self._held, None
            while piece := held.read(PIECE):
                self.write(piece)
        self._begin()
        if self._gzip:
            self._send(self._gzip.flush())
        self._handler.wfile.write(b"0\r\n\r\n")

    def break_off(self, text):
        """Puts an error behind bytes that were sent. The stream of chunks has no end then, and the connection does."""
        if self._gzip:
            self._send(self._gzip.compress(text) + self._gzip.flush())
        else:
            # Behind frames it stands as it is: newer servers write it past what compresses (`cancelWithException`).
            self._send(text)

    def _pack(self, data):
        if self._framed:
            for frame in frames_of(data):
                self._send(frame)
        else:
            self._send(self._gzip.compress(data) if self._gzip else data)

    def _begin(self):
        if not self.begun:
            self.begun = True
            if self._gzip:
                self._headers["Content-Encoding"] = "gzip"
            self._handler.send_head(200, self._headers, chunked=True)

    def _send(self, data):
        if data:
            out = self._handler.wfile
            out.write(b"%x\r\n" % len(data))
            out.write(data)
            out.write(b"\r\n")
