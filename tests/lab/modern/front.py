"""A ClickHouse server's HTTP interface before the embedded engine chdb (`engine.py`, or `serial.py` for an older one):
`python3 front.py front.json`.

Like the server: statements in the query string, the body or both; settings as parameters, `database`, `query_id`,
`default_format`, `wait_end_of_query`, `param_*`; accounts by header, basic authentication or parameter; results and inserts
streamed, gzip or ClickHouse's own framing (`compress`, `decompress`) where it is asked for; errors with the server's code, text, status and headers, also in the middle of a result;
`system.processes` and KILL QUERY with the ids that the client gave.

Unlike it: no `session_id`, no INSERT … SELECT from `input()`, no roles (an account is readable, or also writable, and all have the same grants),
no progress headers; `queryID()` and SHOW PROCESSLIST tell the engine's own ids. What is asked
for and not there is error 48, never ignored.
"""

import base64
import json
import os
import random
import signal
import string
import sys
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

import serial
from engine import Engine, EngineError, new_id
from http_body import Answer, BrokenBody, RequestBody
from statement import first_word, format_of, reads_rows, rows_of_insert

# How much text a statement may have, as the server's `max_query_size`: so far it is looked for the rows of an INSERT.
STATEMENT = 262144
# How much of a request that failed is read on, so that the client sees the answer and may use the connection again.
SKIPPED = 1 << 24
# Parameters that are no settings.
OWN = {"query", "database", "default_format", "query_id", "user", "password", "wait_end_of_query", "buffer_size", "quota_key", "compress", "decompress"}
UNSUPPORTED = {"session_id", "session_check", "session_timeout", "role"}
# The server's table of statuses (`exceptionCodeToHTTPStatus`); all other codes are 500.
STATUS = {
    **dict.fromkeys((6, 25, 26, 27, 36, 38, 41, 44, 53, 62, 72, 117, 321, 427, 456), 400),
    194: 401,
    **dict.fromkeys((192, 193, 511, 512, 516), 403),
    **dict.fromkeys((46, 47, 50, 56, 60, 63, 73, 81, 115), 404),
    159: 408,
    48: 501,
    **dict.fromkeys((76, 209), 503),
}
CONTENT_TYPE = {
    "TabSeparated": "text/tab-separated-values; charset=UTF-8",
    "TSV": "text/tab-separated-values; charset=UTF-8",
    "CSV": "text/csv; charset=UTF-8; header=absent",
    "JSON": "application/json; charset=UTF-8",
    "JSONCompact": "application/json; charset=UTF-8",
    "JSONEachRow": "application/x-ndjson; charset=UTF-8",
    "Native": "application/octet-stream",
    "RowBinary": "application/octet-stream",
}


class Server(ThreadingHTTPServer):
    """All requests share the engine and the accounts."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address, engine, users):
        super().__init__(address, Handler)
        self.engine = engine
        self.users = users
        release = tuple(int(number) for number in engine.version.split(".")[:2])
        self.tags_exceptions = release >= (25, 11)
        self.breaks_chunks = release >= (24, 12)

    def handle_error(self, request, client_address):
        """A client that goes away is no news."""
        if not isinstance(sys.exception() if sys.version_info >= (3, 11) else sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """The requests of one connection, in turn."""

    protocol_version = "HTTP/1.1"
    server_version = "ClickHouse"
    timeout = 600
    wbufsize = 1 << 16

    def do_GET(self):
        """Statements that only read, and `/ping`."""
        self._answer(reading=True)

    def do_HEAD(self):
        """`/ping` without its text."""
        self._plain(200, b"")

    def do_POST(self):
        """Statements."""
        self._answer(reading=False)

    do_PUT = do_POST

    def log_message(self, *arguments):
        """Requests are not logged: they may hold passwords."""

    def send_head(self, status, headers, chunked):
        """Status and headers."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Connection", "close" if self.close_connection else "keep-alive")
        if not self.close_connection:
            self.send_header("Keep-Alive", "timeout=30, max=10000")
        self.end_headers()

    def _answer(self, reading):
        url = urlsplit(self.path)
        if url.path in ("/ping", "/replicas_status") or (url.path == "/" and reading and not url.query):
            return self._plain(200, b"Ok.\n")
        if url.path not in ("/", "/query"):
            self.close_connection = True
            return self._plain(404, f"There is no handle {url.path}\n\n".encode())
        try:
            return self._run(url, reading)
        except ConnectionError:
            self.close_connection = True
        return None

    def _plain(self, status, text):
        self.send_head(status, {"Content-Type": "text/html; charset=UTF-8", "Content-Length": str(len(text))}, chunked=False)
        self.wfile.write(text)

    def _run(self, url, reading):
        parameters = dict(parse_qsl(url.query, keep_blank_values=True, errors="surrogateescape"))
        query_id = parameters.get("query_id") or new_id()
        headers = {
            "Content-Type": CONTENT_TYPE["TSV"],
            "X-ClickHouse-Server-Display-Name": self.headers.get("Host", ""),
            "X-ClickHouse-Query-Id": query_id,
            "X-ClickHouse-Timezone": self.server.engine.timezone,
        }
        tag = "".join(random.choices(string.ascii_lowercase, k=16))
        if self.server.tags_exceptions:
            headers["X-ClickHouse-Exception-Tag"] = tag
        body = answer = statement = None
        try:
            body = RequestBody(self.headers, self.rfile, parameters.get("decompress") == "1")
            readonly = self._readonly_of_account(parameters)
            for name in UNSUPPORTED & parameters.keys():
                if parameters[name] not in ("", "0"):
                    raise EngineError.named(48, "NOT_IMPLEMENTED", f"{name} is not supported by this laboratory's server")
            settings = {k: v for k, v in parameters.items() if k not in OWN | UNSUPPORTED and not k.startswith("param_")}
            gzip = settings.get("enable_http_compression") == "1" and "gzip" in self.headers.get("Accept-Encoding", "")
            statement = self.server.engine.begin(
                query_id,
                settings,
                parameters.get("database") or self.headers.get("X-ClickHouse-Database"),
                readonly or (2 if reading else 0),
            )
            answer = Answer(self, headers, parameters.get("wait_end_of_query") == "1", gzip, parameters.get("compress") == "1")
            self._perform(statement, parameters, body, answer, headers)
            if not body.skip(SKIPPED):
                self.close_connection = True
            answer.finish({"X-ClickHouse-Summary": summary(statement)})
        except EngineError as error:
            self._fail(error, body, answer, headers, tag)
        except BrokenBody as error:
            self.close_connection = True
            self._fail(EngineError.named(33, "CANNOT_READ_ALL_DATA", str(error)), None, answer, headers, tag)
        except ConnectionError:
            raise
        except Exception as error:  # whatever it is, the client must not take it for success
            traceback.print_exc()
            self._fail(EngineError.named(1002, "UNKNOWN_EXCEPTION", repr(error)), body, answer, headers, tag)
        finally:
            if statement is not None:
                statement.close()

    def _perform(self, statement, parameters, body, answer, headers):
        text = parameters.get("query", "").encode("utf-8", "surrogateescape")
        text = text + b"\n" if text else b""
        while len(text) < STATEMENT and (piece := body.read()):
            text += piece
        insert = rows_of_insert(text)
        if insert is not None:
            sql, input_format, start = insert
            statement.insert(sql, input_format, rows(text[start:], body))
            return
        while piece := body.read():
            text += piece
        text = text.strip().rstrip(b";")
        if not text:
            raise EngineError.named(62, "SYNTAX_ERROR", "Syntax error: Empty query")
        if first_word(text) == "INSERT" and reads_rows(text):
            # The engine would read nothing and call that success.
            raise EngineError.named(48, "NOT_IMPLEMENTED", "input() is not supported by this laboratory's server")
        output_format = self.headers.get("X-ClickHouse-Format") or parameters.get("default_format") or "TabSeparated"
        named = format_of(text) if first_word(text) != "INSERT" else None
        headers["X-ClickHouse-Format"] = named or output_format
        headers["Content-Type"] = CONTENT_TYPE.get(headers["X-ClickHouse-Format"], "text/plain; charset=UTF-8")
        values = {name[6:]: value for name, value in parameters.items() if name.startswith("param_")}
        for piece in statement.rows(text, output_format, values):
            headers["X-ClickHouse-Summary"] = summary(statement)
            answer.write(piece)

    def _fail(self, error, body, answer, headers, tag):
        text = f"{error.text} (version {self.server.engine.version})\n".encode("utf-8", "surrogateescape")
        if answer is not None and answer.begun:
            if self.server.tags_exceptions:
                marker, name = b"\r\n__exception__\r\n", tag.encode()
                text = b"%s%s\r\n%s%d %s%s" % (marker, name, text, len(text), name, marker)
            elif self.server.breaks_chunks:
                text = b"\r\n__exception__\r\n" + text
            answer.break_off(text)
            if self.server.breaks_chunks:
                self.close_connection = True
            else:
                self.wfile.write(b"0\r\n\r\n")
            return
        try:
            if body is None or not body.skip(SKIPPED):
                self.close_connection = True
        except BrokenBody:
            self.close_connection = True
        headers.update({
            "Content-Type": "text/plain; charset=UTF-8",
            "X-ClickHouse-Exception-Code": str(error.code),
            "Content-Length": str(len(text)),
        })
        if error.code == 194:
            headers["WWW-Authenticate"] = 'Basic realm="ClickHouse server HTTP API"'
        self.send_head(STATUS.get(error.code, 500), headers, chunked=False)
        self.wfile.write(text)

    def _readonly_of_account(self, parameters):
        """1 for an account that may only read, 0 for others; error 516 for none at all."""
        user, password = parameters.get("user"), parameters.get("password", "")
        if "X-ClickHouse-User" in self.headers:
            user = text_of(self.headers["X-ClickHouse-User"])
            password = text_of(self.headers.get("X-ClickHouse-Key", ""))
        elif self.headers.get("Authorization", "").startswith("Basic "):
            pair = base64.b64decode(self.headers["Authorization"][6:]).decode("utf-8", "replace")
            user, _, password = pair.partition(":")
        user = user or "default"
        account = self.server.users.get(user)
        if account is None or account["password"] != password:
            message = f"{user}: Authentication failed: password is incorrect, or there is no user with such name."
            raise EngineError.named(516, "AUTHENTICATION_FAILED", message)
        return 1 if account["readonly"] else 0


def rows(first, body):
    """What follows the statement: the rest of the piece that it ended in, then the rest of the body."""
    if first:
        yield first
    while piece := body.read():
        yield piece


def summary(statement):
    """The header of that name: all numbers as text."""
    return json.dumps({name: str(number) for name, number in statement.summary.items()}, separators=(",", ":"))


def text_of(header):
    """A header's text: the library takes its bytes for Latin-1, clients send UTF-8."""
    return header.encode("latin-1").decode("utf-8", "replace")


def main():
    """Serves until SIGTERM."""
    with open(sys.argv[1], encoding="utf-8") as file:
        config = json.load(file)
    os.environ["TZ"] = "UTC"
    sys.path.insert(0, config["packages"])
    if config["serial"]:
        account = (config["profile"], config["grants"])
        engine = serial.Engine(config["packages"], config["data"], config["authority"], *account)
    else:
        if config["grants"]:
            folder = os.path.join(os.path.dirname(config["data"]), "account")
            os.makedirs(folder)
            serial.configuration(folder, None, [], config["grants"])
            os.chdir(folder)
        from chdb import _chdb  # only there once the path is known

        engine = Engine(_chdb.connect, config["data"])
    server = Server((config["host"], config["port"]), engine, config["users"])
    # The engine writes each part before it says so: what was answered is on the disk.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    server.serve_forever()


if __name__ == "__main__":
    main()
