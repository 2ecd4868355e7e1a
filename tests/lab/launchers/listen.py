"""listen.py PACKAGES DIR: runs the engine of the package as a server with an HTTP and a native port.

The engine is clickhouse-local. It listens as long as a statement runs, and that statement reads a pipe to which nobody
writes. SIGTERM ends the statement, and with it the server, in good order. DIR holds its config.xml.
"""

import importlib.util
import os
import signal
import sys
import threading

packages, folder = sys.argv[1:]
# The engine's threads inherit the mask: the signals reach `sigwait` below and nothing else.
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
os.chdir(folder)
# The library without its Python package, which would open the engine with other options.
spec = importlib.util.spec_from_file_location("_chdb", os.path.join(packages, "chdb", "_chdb.abi3.so"))
chdb = importlib.util.module_from_spec(spec)
spec.loader.exec_module(chdb)

pipe = os.path.join(folder, "stop")
if not os.path.exists(pipe):
    os.mkfifo(pipe)
end = os.open(pipe, os.O_RDWR)
wait = f"SELECT * FROM file('{pipe}', 'LineAsString', 's String') FORMAT Null"
text = f"SYSTEM START LISTEN TCP; SYSTEM START LISTEN HTTP; {wait}"


def serve():
    try:
        answer = chdb.query(text, "TSV", path=os.path.join(folder, "data"))
        print("ended", answer.error_message() if answer.has_error() else "", flush=True)
    finally:
        os.kill(os.getpid(), signal.SIGTERM)


server = threading.Thread(target=serve)
server.start()
signal.sigwait({signal.SIGTERM, signal.SIGINT})
os.close(end)
server.join()
os._exit(0)
