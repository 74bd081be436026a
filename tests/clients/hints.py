"""Types into redis-cli at a terminal, and waits for its hints: `hints.py PORT`. Run by tests/clients.rs."""

import fcntl
import os
import pty
import re
import select
import struct
import sys
import termios

PORT = sys.argv[1]
PATIENCE = 120

# What is typed, and the hint that stands behind it.
HINTS = {
    "set ": "key value [NX|XX] [GET] [EX seconds|PX milliseconds|EXAT unix-time-seconds|",
    "set key ": "value [NX|XX] [GET]",
    "client no-touch ": "ON|OFF",
    "kival changes ": "SINCE sequence [COUNT count] [BLOCK milliseconds] [MATCH pattern] [WITHVALUES]",
}


def wait_for(typed, hint):
    """Waits until redis-cli shows this hint."""
    pid, terminal = pty.fork()
    if pid == 0:
        # It cuts its line at the width of the terminal, which it would ask for if there were none.
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 400, 0, 0))
        environment = {**os.environ, "TERM": "xterm", "REDISCLI_RCFILE": "/dev/null", "HOME": "/nonexistent"}
        os.execvpe("redis-cli", ["redis-cli", "-p", PORT], environment)
    try:
        read_until(terminal, "> ")
        os.write(terminal, typed.encode())
        read_until(terminal, hint)
    finally:
        os.close(terminal)
        os.waitpid(pid, 0)


def read_until(terminal, text):
    shown = ""
    while text not in re.sub("\x1b\\[[0-9;]*[A-Za-z]", "", shown):
        ready, _, _ = select.select([terminal], [], [], PATIENCE)
        assert ready, f"no {text!r} in {shown!r}"
        shown += os.read(terminal, 4096).decode()


for typed, hint in HINTS.items():
    wait_for(typed, hint)
print(f"{len(HINTS)} checks done")
