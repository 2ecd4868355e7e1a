"""The embedded engine, chdb, as the server behind the front: one connection for each statement, each with its own settings,
current database and id. Statements of several connections run in parallel."""

import re
import threading
import uuid

from statement import first_word, replace_table

# What this engine sets for people at a prompt, and a server does not.
LIKE_A_SERVER = {"implicit_select": "0", "allow_introspection_functions": "0"}
# The engine gives statements ids of its own. Ours travels as the first line of `log_comment`, which the list of processes
# shows; so the statements that the front itself sends are the ones without.
PROCESSES = b"""(SELECT * REPLACE (splitByChar('\\n', Settings['log_comment'])[1] AS query_id,
    splitByChar('\\n', Settings['log_comment'])[1] AS initial_query_id)
    FROM system.processes WHERE Settings['log_comment'] != '')"""
PROCESSES_WITH_OWN_ID = PROCESSES.decode().replace("system.processes", "(SELECT *, query_id AS own FROM system.processes)")
KILLED = "Query was cancelled"


class EngineError(Exception):
    """An error of the server: its code and its text, `Code: N. DB::Exception: … (NAME)`."""

    def __init__(self, code, text):
        super().__init__(text)
        self.code = code
        self.text = text

    @classmethod
    def named(cls, code, name, message):
        """An error of the front's own, in the server's words."""
        return cls(code, f"Code: {code}. DB::Exception: {message} ({name})")

    @classmethod
    def of(cls, error):
        """What the engine raised."""
        text = str(error).strip()
        # The innermost one is the error, those around it only repeat it.
        while inner := re.match(r"Code: \d+\. DB::Exception: (?=Code: \d+\. DB::Exception: )", text):
            text = re.sub(r"( \(version [^)]*\))?\. \([A-Z_]+\)$", "", text[inner.end() :])
        code = re.match(r"Code: (\d+)", text)
        text = re.sub(r" \(version [^)]*\)$", "", text)
        return cls(int(code[1]), text) if code else cls.named(1002, "UNKNOWN_EXCEPTION", text)


def quoted(text):
    """A string literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


class Engine:
    """The engine on a folder."""

    def __init__(self, connect, path):
        self._connect = connect
        self._path = path
        self._base = connect(path)  # while it is open, the engine is
        self._lock = threading.Lock()
        self._running = {}
        self.version = self._base.query("SELECT version()", "TSVRaw").bytes().decode().strip()
        self.timezone = self._base.query("SELECT timezone()", "TSVRaw").bytes().decode().strip()

    def begin(self, query_id, settings, database, readonly):
        """A connection for one statement. Its id is in use until it is closed."""
        with self._lock:
            if query_id in self._running:
                message = f"Query with id = {query_id} is already running."
                raise EngineError.named(216, "QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING", message)
            self._running[query_id] = statement = Statement(self, query_id)
        try:
            statement.open(self._connect(self._path), settings, database, readonly)
        except BaseException:
            statement.close()
            raise
        return statement

    def forget(self, query_id):
        """Frees an id."""
        with self._lock:
            self._running.pop(query_id, None)

    def mark_killed(self, ids):
        """Remembers who was killed: the engine ends a killed INSERT of streamed rows like a good one."""
        with self._lock:
            for query_id in ids:
                if query_id in self._running:
                    self._running[query_id].killed = True


class Statement:
    """A connection that runs one statement."""

    def __init__(self, engine, query_id):
        self._engine = engine
        self._id = query_id
        self._connection = None
        self.killed = False
        self.summary = {"read_rows": 0, "read_bytes": 0, "written_rows": 0, "written_bytes": 0}

    def open(self, connection, settings, database, readonly):
        """Applies settings (an unknown one is error 115) and the current database (error 81)."""
        self._connection = connection
        comment = f"{self._id}\n{settings.pop('log_comment', '')}".strip()
        mine = {**LIKE_A_SERVER, "log_comment": comment}
        self._set(mine)
        if database:
            self._call(lambda: connection.query(f"USE `{database.replace('`', '``')}`", "Null"))
        if readonly == 1:
            self._set({"readonly": "1"})
        if settings:
            self._set(settings)
        if readonly == 2 and settings.get("readonly", "0") == "0":
            self._set({"readonly": "2"})

    def close(self):
        """Ends the connection, and frees the id."""
        if self._connection is not None:
            self._connection.close()
        self._engine.forget(self._id)

    def rows(self, sql, output_format, parameters):
        """Runs a statement; its result in pieces, as the engine makes them where it can."""
        keyword = first_word(sql)
        if keyword == "KILL":
            yield self._kill(sql, output_format)
            return
        if keyword in ("SELECT", "WITH"):
            sql = replace_table(sql, b"system", b"processes", PROCESSES)
            yield from self._stream(sql, output_format, parameters)
            return
        text = sql.decode("utf-8", "surrogateescape")
        result = self._call(lambda: self._connection.query(text, output_format, params=parameters))
        self._count(result)
        yield result.bytes()

    def insert(self, sql, input_format, pieces):
        """Inserts the rows that the pieces are; when they break off, what was not yet written is not."""
        text = sql.decode("utf-8", "surrogateescape")
        stream = self._call(lambda: self._connection.send_insert(text, input_format))
        try:
            for piece in pieces:
                self._check_killed()
                self._call(lambda: self._connection.insert_append(stream, piece))
            self._check_killed()
        except BaseException:
            try:
                self._connection.insert_cancel(stream)
            except RuntimeError:
                pass  # the engine has ended it already; the first error is the one to tell
            raise
        result = self._call(lambda: self._connection.insert_done(stream))
        self._check_killed()
        self.summary["written_rows"] = result.rows_written()
        self.summary["written_bytes"] = result.bytes_written()

    def _stream(self, sql, output_format, parameters):
        text = sql.decode("utf-8", "surrogateescape")
        connection = self._connection
        stream = self._call(lambda: connection.send_query(text, output_format, params=parameters))
        ended = False
        try:
            while True:
                result = self._call(lambda: connection.streaming_fetch_result(stream))
                piece = result.bytes() if result is not None else b""
                if not piece:
                    ended = True
                    self._check_killed()
                    return
                self.summary["read_rows"] += result.rows_read()
                self.summary["read_bytes"] += result.bytes_read()
                yield piece
        except EngineError:
            ended = True
            raise
        finally:
            if not ended:
                connection.streaming_cancel_query(stream)

    def _kill(self, sql, output_format):
        """`KILL QUERY WHERE …` names statements by our ids, the engine kills by its own."""
        found = re.fullmatch(rb"(?is)\s*KILL\s+QUERY\s+WHERE\s(.*?)\s*\b(SYNC|ASYNC|TEST)?\s*;?\s*(?:FORMAT\s+(\w+)\s*)?", sql)
        if not found:
            raise EngineError.named(62, "SYNTAX_ERROR", "Syntax error: only KILL QUERY WHERE … [SYNC|ASYNC|TEST] is known here")
        condition, mode = found[1].decode(), (found[2] or b"ASYNC").decode().upper()
        if found[3]:
            output_format = found[3].decode()
        listed = f"SELECT query_id, own FROM {PROCESSES_WITH_OWN_ID} WHERE {condition}"
        answer = self._call(lambda: self._connection.query(listed, "TSVRaw")).bytes().decode()
        pairs = [line.split("\t") for line in answer.splitlines()]
        pairs = [pair for pair in pairs if pair[0] != self._id]
        status = {}
        if pairs:
            if mode != "TEST":
                self._engine.mark_killed(pair[0] for pair in pairs)
            own = ", ".join(quoted(pair[1]) for pair in pairs)
            killing = f"KILL QUERY WHERE query_id IN ({own}) {mode}"
            lines = self._call(lambda: self._connection.query(killing, "TSVRaw")).bytes().decode().splitlines()
            status = {line.split("\t")[1]: line.split("\t")[0] for line in lines if line.count("\t") >= 1}
        rows = ", ".join(
            f"({quoted(status.get(own, 'waiting'))}, {quoted(ours)}, 'default', '')" for ours, own in pairs
        )
        structure = "'kill_status String, query_id String, user String, query String'"
        shown = f"SELECT * FROM values({structure}, {rows})" if rows else f"SELECT * FROM null({structure}) LIMIT 0"
        return self._call(lambda: self._connection.query(shown, output_format)).bytes()

    def _set(self, settings):
        for name in settings:
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.]*", name):
                raise EngineError.named(115, "UNKNOWN_SETTING", f"Unknown setting '{name}'")
        text = ", ".join(f"{name} = {quoted(value)}" for name, value in settings.items())
        self._call(lambda: self._connection.query(f"SET {text}", "Null"))

    def _count(self, result):
        self.summary["read_rows"] += result.rows_read()
        self.summary["read_bytes"] += result.bytes_read()
        self.summary["written_rows"] += result.rows_written()
        self.summary["written_bytes"] += result.bytes_written()

    def _check_killed(self):
        if self.killed:
            raise EngineError.named(394, "QUERY_WAS_CANCELLED", KILLED)

    def _call(self, work):
        try:
            return work()
        except RuntimeError as error:
            raise EngineError.of(error) from error


def new_id():
    """An id for a statement that was given none."""
    return str(uuid.uuid4())
