"""What the benchmarks have in common: running a process and measuring it, and printing tables.

This module imports nothing but the standard library: Linux counts the memory of the process that starts another one
into the peak of the started one, so what is imported here would be the least that any contender can show.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

DATABASE = "bench"


class Failure(Exception):
    """A contender or a helper that did not do its work; the text is for the person who runs the benchmark."""


@dataclass
class Run:
    """One execution of one process."""

    seconds: float
    peak_bytes: int
    stdout: str


def execute(command, environment=None):
    """Runs a command to its end, and measures it with the resource usage that the kernel reports for it.

    A command that starts others and waits for them is charged with the largest of them."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        started = time.monotonic()
        process = subprocess.Popen(command, stdout=out, stderr=err, stdin=subprocess.DEVNULL,
                                   env=os.environ | (environment or {}))
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        stdout, stderr = (stream.read().decode(errors="replace") for stream in (out, err))
    if process.returncode != 0:
        shown = redact(" ".join(map(str, command)))
        raise Failure(f"{shown}\nended with {process.returncode}:\n{redact(stderr or stdout).strip()}")
    return Run(seconds, usage.ru_maxrss * 1024, stdout)


def redact(text):
    """`text` without the passwords of addresses."""
    return re.sub(r"://([^:/@\s]+):[^@/\s]+@", r"://\1:***@", text)


def with_database(uri):
    """`uri` with the benchmark's database as its path, for commands that read the database from it.

    Users are looked up in the database that a URI names, or in admin if it names none: that is kept as an option."""
    parts = urlsplit(uri)
    query = parts.query
    if "@" in parts.netloc and "authsource=" not in query.lower() and "authmechanism=" not in query.lower():
        query += ("&" if query else "") + f"authSource={parts.path.strip('/') or 'admin'}"
    return urlunsplit(parts._replace(path=f"/{DATABASE}", query=query))


def table(header, rows):
    """Prints a Markdown table: texts to the left, numbers to the right."""
    widths = [max(len(line[column]) for line in [header, *rows]) for column in range(len(header))]
    texts = [all(not line[column][:1].isdigit() for line in rows) or column == 0 for column in range(len(header))]

    def show(line):
        cells = (cell.ljust(width) if text else cell.rjust(width) for cell, width, text in zip(line, widths, texts))
        print("| " + " | ".join(cells) + " |")

    show(header)
    print("|" + "|".join("-" * (width + 1) + ("-" if text else ":") for width, text in zip(widths, texts)) + "|")
    for line in rows:
        show(line)


def note(text):
    """Tells on standard error what is going on; the table alone goes to standard output."""
    print(text, file=sys.stderr, flush=True)
