"""What a request's text is: enough of ClickHouse's lexer to find where a statement ends and its rows begin."""

import re

TOKEN = re.compile(
    rb"""(?P<blank>\s+|--[^\n]*|\#[ !][^\n]*|/\*.*?\*/)
       | (?P<text>'(?:[^'\\]|\\.|'')*')
       | (?P<quoted>`(?:[^`\\]|\\.|``)*`|"(?:[^"\\]|\\.|"")*")
       | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
       | (?P<number>[0-9][0-9A-Za-z_.]*)
       | (?P<sign>.)""",
    re.X | re.S,
)


def tokens(text):
    """Tokens of a text with the number of brackets open around each: `(match, depth)`, without blanks and comments."""
    depth = 0
    for found in TOKEN.finditer(text):
        if found.lastgroup == "blank":
            continue
        sign = found[0] if found.lastgroup == "sign" else b""
        if sign in (b")", b"]", b"}"):
            depth -= 1
        yield found, depth
        if sign in (b"(", b"[", b"{"):
            depth += 1


def word(found):
    """A bare word in capitals; empty for any other token."""
    return found[0].upper().decode() if found.lastgroup == "word" else ""


def first_word(text):
    """The first word of a statement, brackets around it ignored."""
    for found, _ in tokens(text):
        if found[0] != b"(":
            return word(found)
    return ""


def rows_of_insert(text):
    """`(statement, format, offset of the rows)` of an INSERT whose rows follow in the request; None for any other text."""
    found = [(token, depth) for token, depth in tokens(text)]
    if not found or word(found[0][0]) != "INSERT":
        return None
    at = 1
    while at < len(found) and word(found[at][0]) in ("INTO", "TABLE", "FUNCTION"):
        at += 1
    at += 1  # the name of the table, whose parts may be words like VALUES
    while at + 1 < len(found) and found[at][0][0] == b".":
        at += 2
    for i in range(at, len(found)):
        token, depth = found[i]
        if depth:
            continue
        name = word(token)
        if name in ("SELECT", "WITH", "FROM"):
            return None
        if name == "VALUES":
            return text[: token.start()], "Values", token.end()
        if name == "FORMAT" and i + 1 < len(found):
            format_token = found[i + 1][0]
            start = format_token.end()
            # As the server's parser: blanks, then one end of line, belong to the statement.
            start += len(re.match(rb"[ \t\f]*;?[ \t\f]*\r?\n?", text[start:])[0])
            return text[: token.start()], format_token[0].decode(), start
    return None


def reads_rows(text):
    """Whether a statement takes rows of its request through `input(…)`."""
    previous = ""
    for found, _ in tokens(text):
        if previous == "INPUT" and found[0] == b"(":
            return True
        previous = word(found)
    return False


def format_of(text):
    """The format that the end of a statement names, or None."""
    last = None
    previous = ""
    for found, depth in tokens(text):
        if depth == 0 and previous == "FORMAT" and found.lastgroup == "word":
            last = found[0].decode()
        previous = word(found)
    return last


def replace_table(text, database, table, by):
    """Puts something in the place of a table wherever its full name stands."""
    out, copied, window = [], 0, []
    for found, _ in tokens(text):
        window = (window + [found])[-3:]
        names = [token[0].strip(b'`"').lower() for token in window]
        if names == [database, b".", table]:
            out += [text[copied : window[0].start()], by]
            copied = found.end()
    return b"".join(out) + text[copied:]


def several(text):
    """Whether something follows a semicolon."""
    ended = False
    for found, _ in tokens(text):
        if ended and found[0] != b";":
            return True
        ended = ended or found[0] == b";"
    return False


def replace_partition_in_two(text):
    """`REPLACE PARTITION x FROM t` as `DROP PARTITION x, ATTACH PARTITION x FROM t`: chdb before 3.0 loses the first half."""
    out, copied, start, previous = [], 0, None, None
    for found, depth in tokens(text):
        if depth == 0 and word(found) == "PARTITION" and previous is not None and word(previous) == "REPLACE":
            out.append(text[copied : previous.start()])
            copied, start = previous.start(), found.end()
        elif depth == 0 and word(found) == "FROM" and start is not None:
            partition = text[start : found.start()]
            out.append(b"DROP PARTITION" + partition.rstrip() + b", ATTACH PARTITION" + partition)
            copied, start = found.start(), None
        previous = found
    return b"".join(out) + text[copied:]
