"""An embedded engine of the older kind behind the front: chdb before 3.0 starts a server for each statement and ends it again,
so one statement runs at a time, in a process of its own (`runner.py`) that can be killed. Same face as `engine.py`.

What follows from that: results and rows to insert are whole files before they are sent or read; nothing of a server that is not on
the disk lasts from statement to statement (stopped merges, uptime, tables in memory); `system.processes` holds what the front has
in hand, with few columns."""

import ctypes
import json
import os
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from xml.sax.saxutils import escape

from engine import KILLED, EngineError, quoted
from http_body import PIECE
from statement import first_word, replace_partition_in_two, replace_table, several

# What this engine changes for people at a prompt. A server before 19.18 refuses a statement from another server whose changed
# settings it does not know, so these must not only have a server's value but count as unchanged.
LIKE_A_SERVER = "SET allow_introspection_functions = DEFAULT, storage_file_read_method = DEFAULT"
PROCESSES = "query_id String, initial_query_id String, user String, query String, elapsed Float64, read_rows UInt64, written_rows UInt64, is_cancelled UInt8"
USERS = """<clickhouse><profiles><default>{}</default></profiles><quotas><default/></quotas><users><default>
    <password/><networks><ip>::/0</ip></networks><profile>default</profile><quota>default</quota>{}</default></users></clickhouse>
"""
EVERYTHING = """<access_management>1</access_management><named_collection_control>1</named_collection_control>
    <show_named_collections>1</show_named_collections>"""


class Engine:
    """The engine on a folder."""

    def __init__(self, packages, path, authority, profile, grants):
        self._lock = threading.Lock()
        self._running = {}
        self.files = os.path.join(os.path.dirname(path), "statements")
        os.makedirs(self.files, exist_ok=True)
        configuration(self.files, authority, profile, grants)
        self.data = Runner(packages, path, self.files)
        # Answers for the front itself, also while a statement runs.
        self.front = Runner(packages, os.path.join(self.files, "front"), self.files)
        self.version, self.timezone = self._ask("SELECT version(), timezone()").strip().split("\t")

    def _ask(self, sql):
        statement = self.begin("front", {}, None, 0)
        try:
            return b"".join(statement.rows(sql.encode(), "TSVRaw", {})).decode()
        finally:
            statement.close()

    def begin(self, query_id, settings, database, readonly):
        """A statement. Its id is in use until it is closed."""
        with self._lock:
            if query_id in self._running:
                message = f"Query with id = {query_id} is already running."
                raise EngineError.named(216, "QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING", message)
            self._running[query_id] = statement = Statement(self, query_id, settings, database, readonly)
        return statement

    def forget(self, query_id):
        """Frees an id."""
        with self._lock:
            self._running.pop(query_id, None)

    def processes(self):
        """What is in hand, as a table function."""
        with self._lock:
            running = list(self._running.values())
        now = time.monotonic()
        rows = (
            f"({quoted(each.id)}, {quoted(each.id)}, 'default', {quoted(each.text)}, {now - each.begun:.6f}, 0, 0, {int(each.killed)})"
            for each in running
        )
        return f"values({quoted(PROCESSES)}, {', '.join(rows)})"

    def kill(self, query_id):
        """Ends a statement, wherever it is; false when it has ended."""
        with self._lock:
            statement = self._running.get(query_id)
        if statement is None:
            return False
        statement.killed = True
        self.data.kill(statement)
        return True


class Statement:
    """One statement."""

    def __init__(self, engine, query_id, settings, database, readonly):
        self._engine = engine
        self.id = query_id
        self.text = ""
        self.begun = time.monotonic()
        self.killed = False
        self.summary = {"read_rows": 0, "read_bytes": 0, "written_rows": 0, "written_bytes": 0}
        self._before = [LIKE_A_SERVER]
        if database:
            self._before.append(f"USE `{database.replace('`', '``')}`")
        if readonly == 1:
            self._before.append("SET readonly = 1")
        self._set(settings)
        if readonly == 2 and settings.get("readonly", "0") == "0":
            self._before.append("SET readonly = 2")

    def close(self):
        """Frees the id."""
        self._engine.forget(self.id)

    def rows(self, sql, output_format, parameters):
        """Runs a statement; its result in pieces, once it is complete."""
        if several(sql):
            raise EngineError.named(62, "SYNTAX_ERROR", "Syntax error (Multi-statements are not allowed)")
        self.text = sql.decode("utf-8", "surrogateescape")
        self._set({f"param_{name}": value for name, value in parameters.items()})
        keyword, runner = first_word(sql), self._engine.data
        if keyword == "KILL":
            sql, runner = self._kill(sql), self._engine.front
        elif keyword == "ALTER":
            sql = replace_partition_in_two(sql)
        elif (with_list := replace_table(sql, b"system", b"processes", self._engine.processes().encode())) != sql:
            sql, runner = with_list, self._engine.front
        yield from self._run(runner, sql.decode("utf-8", "surrogateescape"), output_format)

    def insert(self, sql, input_format, pieces):
        """Inserts the rows that the pieces are, when all have come."""
        self.text = sql.decode("utf-8", "surrogateescape")
        with tempfile.NamedTemporaryFile(dir=self._engine.files) as file:
            for piece in pieces:
                self.check_killed()
                file.write(piece)
            file.flush()
            for _ in self._run(self._engine.data, f"{self.text} FORMAT {input_format}", "Null", file.name):
                pass
        self.summary["written_rows"] = self.summary["read_rows"]

    def check_killed(self):
        """Error 394 when it was."""
        if self.killed:
            raise EngineError.named(394, "QUERY_WAS_CANCELLED", KILLED)

    def _run(self, runner, text, output_format, rows=None):
        with tempfile.NamedTemporaryFile(dir=self._engine.files) as out:
            answer = runner.perform(self, ";\n".join([*self._before, text]), output_format, out.name, rows)
            self.summary["read_rows"] += answer["rows_read"]
            self.summary["read_bytes"] += answer["bytes_read"]
            while piece := out.read(PIECE):
                yield piece

    def _kill(self, sql):
        """`KILL QUERY WHERE …`: the statement that shows what was done."""
        found = re.fullmatch(rb"(?is)\s*KILL\s+QUERY\s+WHERE\s(.*?)\s*\b(SYNC|ASYNC|TEST)?\s*;?\s*(FORMAT\s+\w+\s*)?", sql)
        if not found:
            raise EngineError.named(62, "SYNTAX_ERROR", "Syntax error: only KILL QUERY WHERE … [SYNC|ASYNC|TEST] is known here")
        condition, mode = found[1].decode(), (found[2] or b"ASYNC").decode().upper()
        listed = f"SELECT query_id FROM {self._engine.processes()} WHERE {condition}"
        ids = b"".join(self._run(self._engine.front, listed, "JSONEachRow")).decode().splitlines()
        ids = [json.loads(line)["query_id"] for line in ids]
        killed = [each for each in ids if each != self.id and (mode == "TEST" or self._engine.kill(each))]
        rows = ", ".join(f"('waiting', {quoted(each)}, 'default', '')" for each in killed)
        structure = "'kill_status String, query_id String, user String, query String'"
        shown = f"SELECT * FROM values({structure}, {rows})" if rows else f"SELECT * FROM null({structure}) LIMIT 0"
        return f"{shown} {(found[3] or b'').decode()}".encode()

    def _set(self, settings):
        for name in settings:
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.]*", name):
                raise EngineError.named(115, "UNKNOWN_SETTING", f"Unknown setting '{name}'")
        if settings:
            self._before.append("SET " + ", ".join(f"{name} = {quoted(value)}" for name, value in settings.items()))


class Runner(threading.Thread):
    """The process that performs statements, one after the other."""

    def __init__(self, packages, path, files):
        super().__init__(daemon=True)
        self._command = [sys.executable, "-B", os.path.join(os.path.dirname(__file__), "runner.py"), packages, path]
        self._files = files
        self._jobs = queue.Queue()
        self._lock = threading.Lock()
        self._current = None
        self._process = None
        self.start()

    def perform(self, statement, sql, output_format, out, rows):
        """Waits its turn; `{rows_read, bytes_read}` when the result is in the file `out`. An INSERT takes the file `rows`."""
        answers = queue.Queue()
        request = json.dumps({"sql": sql, "format": output_format, "out": out, "rows": rows})
        self._jobs.put((statement, request, answers))
        answer = answers.get()
        statement.check_killed()
        if answer is None:
            raise EngineError.named(1002, "UNKNOWN_EXCEPTION", "the engine's process has died")
        if answer["error"] is not None:
            raise EngineError.of(answer["error"])
        return answer

    def kill(self, statement):
        """Ends the process if it performs this statement."""
        with self._lock:
            if self._current is statement:
                self._process.kill()

    def run(self):
        """Starts the process from this thread only: it dies with the thread that started it, as it is to."""
        self._begin()
        while True:
            statement, request, answers = self._jobs.get()
            with self._lock:
                self._current = statement
            answer = None if statement.killed else self._ask(request)
            with self._lock:
                self._current = None
            # What fails to parse leaves this engine in disorder.
            if answer is None or (answer["error"] or "").startswith("Code: 62."):
                self._begin()
            answers.put(answer)

    def _ask(self, request):
        try:
            self._process.stdin.write(request + "\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())
        except (OSError, ValueError):
            return None  # killed, or dead

    def _begin(self):
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        die_with_parent = lambda: ctypes.CDLL(None).prctl(1, signal.SIGKILL)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "encoding": "utf-8", "errors": "surrogateescape"}
        self._process = subprocess.Popen(self._command, cwd=self._files, preexec_fn=die_with_parent, **pipes)


def configuration(folder, authority, profile, grants):
    """The engine reads `config.xml` of the folder that it is started in. Without grants it may do everything."""
    client = ""
    if authority:
        client = f"<openSSL><client><caConfig>{escape(authority)}</caConfig><loadDefaultCAFile>false</loadDefaultCAFile>\
<verificationMode>strict</verificationMode></client></openSSL>"
    with open(os.path.join(folder, "users.xml"), "w", encoding="utf-8") as file:
        settings = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in profile)
        rights = "".join(f"<query>{escape(grant)}</query>" for grant in grants)
        file.write(USERS.format(settings, f"<grants>{rights}</grants>" if grants else EVERYTHING))
    with open(os.path.join(folder, "config.xml"), "w", encoding="utf-8") as file:
        file.write(f"<clickhouse><users_config>users.xml</users_config>{client}</clickhouse>\n")
