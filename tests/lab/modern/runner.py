"""Performs the statements that `serial.py` sends, each a line of JSON: `runner.py PACKAGES DATA`."""

import contextlib
import importlib.util
import json
import os
import subprocess
import sys


def main():
    """Serves until its standard input ends."""
    packages, path = sys.argv[1:]
    # The engine has words of its own for the standard output, and reads rows to be inserted from the standard input.
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    # Without the package around it, which wants libraries for data frames.
    [engine] = [name for name in os.listdir(os.path.join(packages, "chdb")) if name.startswith("_chdb.")]
    spec = importlib.util.spec_from_file_location("_chdb", os.path.join(packages, "chdb", engine))
    chdb = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(chdb)
    os.makedirs(path, exist_ok=True)
    for line in requests:
        request = json.loads(line)
        # It would put the settings and the database of earlier statements before each.
        for remembered in ("set_statements", "default_database"):
            with contextlib.suppress(FileNotFoundError):
                os.remove(os.path.join(path, remembered))
        feeder = None
        if request["rows"]:
            # Through a pipe: it makes a table of a regular file.
            feeder = subprocess.Popen(["cat", request["rows"]], stdin=nothing, stdout=subprocess.PIPE)
            os.dup2(feeder.stdout.fileno(), 0)
            feeder.stdout.close()
        answer = {"error": None, "rows_read": 0, "bytes_read": 0}
        try:
            result = chdb.query(request["sql"], request["format"], path=path)
            if result.has_error():
                answer["error"] = result.error_message()
            else:
                with open(request["out"], "wb") as out:
                    out.write(result.bytes())
                answer |= {"rows_read": result.rows_read(), "bytes_read": result.bytes_read()}
        except Exception as error:  # whatever it is, it is not a result
            answer["error"] = str(error) or repr(error)
        os.dup2(nothing, 0)
        if feeder:
            feeder.wait()
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
