"""Servers under measurement: started on a free port in a directory of their own, watched through /proc,
filled with keys, stopped, killed and started again. What is sent to them for measuring is in load.py."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
# Keys that one write to the socket of fill() carries.
CHUNK = 5_000


def key(n):
    """The n-th key, as redis-benchmark names it: 16 bytes."""
    return b"key:%012d" % n


def request(*words):
    """A command as it goes over the wire."""
    words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def command_line(peer, program, port, folder, policy, settings):
    if peer == "redis":
        settings = {"save": "", "appendonly": "yes", "maxclients": 10_000, **settings}
    words = [program, "--port", str(port), "--dir", folder, "--appendfsync", policy]
    for name, value in settings.items():
        words += [f"--{name}", str(value)]
    return words


class Server:
    """A running server; a context manager that ends it and removes its directory."""

    def __init__(self, peer, program, parent, policy, settings):
        self.folder = tempfile.mkdtemp(prefix=f"{peer}-", dir=parent)
        self.port = free_port()
        self.words = command_line(peer, program, self.port, self.folder, policy, settings)
        self.process = None
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def pid(self):
        return self.process.pid

    def start(self):
        """Starts it and returns the seconds until it serves."""
        log = os.path.join(self.folder, "server.log")
        began = time.monotonic()
        with open(log, "ab") as out:
            self.process = subprocess.Popen(self.words, stdout=out, stderr=out, stdin=subprocess.DEVNULL, cwd=self.folder)
        while time.monotonic() < began + 600:
            if self.process.poll() is not None:
                with open(log, errors="replace") as text:
                    raise RuntimeError(f"{self.words[0]} ended before it served: {text.read()[-1000:]}")
            try:
                # A server that loads answers with an error.
                if self.ask("PING") == b"+PONG":
                    return time.monotonic() - began
            except OSError:
                pass
            time.sleep(0.002)
        raise RuntimeError(f"{self.words[0]} did not serve within 10 minutes")

    def stop(self):
        """Ends it cleanly."""
        self.process.send_signal(signal.SIGTERM)
        if self.process.wait(600) not in (0, -signal.SIGTERM):
            raise RuntimeError(f"{self.words[0]} ended with {self.process.returncode}")

    def kill(self):
        self.process.kill()
        self.process.wait()

    def connect(self):
        connection = socket.create_connection(("127.0.0.1", self.port), 600)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def ask(self, *words):
        """The first line of the reply to a command; of a bulk reply what is in it."""
        with self.connect() as connection, connection.makefile("rb") as replies:
            connection.sendall(request(*words))
            line = replies.readline().rstrip(b"\r\n")
            return replies.read(int(line[1:])) if line[:1] == b"$" and line != b"$-1" else line

    def demand(self, *words):
        """As ask(), but an error reply is raised."""
        reply = self.ask(*words)
        if reply[:1] == b"-":
            raise RuntimeError(f"{words[0]}: {reply.decode(errors='replace')}")
        return reply

    def info(self):
        lines = self.ask("INFO").decode().splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    def keys(self):
        return int(self.demand("DBSIZE")[1:])

    def settle(self):
        """Waits until no rewrite or merge runs."""
        quiet = 0
        while quiet < 5:
            quiet = 0 if self.info()["aof_rewrite_in_progress"] == "1" else quiet + 1
            time.sleep(0.2)

    def cpu(self):
        """Seconds of processor time that all its threads have used, and the children that have ended: redis-server
        rewrites its log in a child, where kival merges in a thread."""
        with open(f"/proc/{self.pid}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return sum(int(ticks) for ticks in fields[11:15]) / TICKS_A_SECOND

    def resident(self):
        """Bytes of memory that it has."""
        with open(f"/proc/{self.pid}/status") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS"))

    def files(self, ending):
        """The files in its directory with such names."""
        paths = (os.path.join(self.folder, name) for name in os.listdir(self.folder) if name.endswith(ending))
        return [path for path in paths if os.path.isfile(path)]

    def fill(self, keys, size, times=1):
        """Sets the keys 0 .. keys to values of so many bytes, pipelined, and checks every reply."""
        value = os.urandom(size)
        head, tail = b"*3\r\n$3\r\nSET\r\n$16\r\nkey:", b"\r\n$%d\r\n%s\r\n" % (size, value)
        chunk = max(1, min(CHUNK, (4 << 20) // (size + 64)))
        failure = []

        def take(connection, expected):
            while expected:
                reply = connection.recv(1 << 20)
                if not reply or b"-" in reply:
                    failure.append(reply[:200])
                    connection.close()
                    return
                expected -= len(reply)

        with self.connect() as connection:
            taker = threading.Thread(target=take, args=(connection, len(b"+OK\r\n") * keys * times))
            taker.start()
            try:
                for _ in range(times):
                    for first in range(0, keys, chunk):
                        numbers = range(first, min(first + chunk, keys))
                        connection.sendall(b"".join(head + b"%012d" % n + tail for n in numbers))
            except OSError:
                if not failure:
                    raise
            taker.join()
        if failure:
            raise RuntimeError(f"a SET failed: {failure[0]!r}")
