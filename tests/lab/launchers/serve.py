"""serve.py LIBRARY ENTRY ARGUMENT...: runs the ClickHouse server whose entry point the library holds, with these arguments."""

import ctypes
import os
import sys

library, name, *arguments = sys.argv[1:]
entry = getattr(ctypes.CDLL(library, mode=os.RTLD_NOW | os.RTLD_GLOBAL), name)
entry.restype = ctypes.c_int
argv = [b"clickhouse-server", *[os.fsencode(argument) for argument in arguments]]
sys.exit(entry(len(argv), (ctypes.c_char_p * (len(argv) + 1))(*argv, None)))
