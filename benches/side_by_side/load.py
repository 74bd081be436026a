"""Load and latency: redis-benchmark in front, redis-benchmark behind, a probe that asks at a fixed rate, and a
writer of huge values. Servers are in servers.py."""

import json
import os
import resource
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

from servers import request

# From here on redis-benchmark's one core counts as the limit of what is measured.
LIMIT = 0.9
HERE = os.path.dirname(os.path.abspath(__file__))


def benchmark_words(server, words):
    return ["redis-benchmark", "-h", "127.0.0.1", "-p", str(server.port)] + words.split()


def measure(server, words, requests):
    """Runs redis-benchmark: requests a second, CPU microseconds of the server a request, p99 in ms, errors, and
    how busy redis-benchmark itself was, 1.0 being a whole core."""
    before, spent, began = server.cpu(), children_cpu(), time.monotonic()
    done = subprocess.run(
        benchmark_words(server, words) + ["-n", str(requests), "--csv"], capture_output=True, text=True, timeout=1800)
    cpu = server.cpu() - before
    busy = (children_cpu() - spent) / (time.monotonic() - began)
    return {**figures(done.stdout, done.returncode, done.stderr), "cpu": cpu / requests * 1e6, "busy": busy}


def children_cpu():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def result_row(out):
    rows = [line for line in out.splitlines() if line.startswith('"') and not line.startswith('"test"')]
    if not rows:
        raise RuntimeError(f"redis-benchmark said nothing to measure by: {out[-500:]}")
    return [cell.strip('"') for cell in rows[-1].split('","')]


def figures(out, code, complaints):
    cells = result_row(out)
    errors = sum("rror" in line for line in (out + complaints).splitlines()) + (code != 0)
    return {"rate": float(cells[1]), "p99": float(cells[6]), "errors": errors}


def measure_together(server, loads):
    """Several redis-benchmarks at once: what figures() gives, one for each of (words, requests)."""
    started = [
        subprocess.Popen(benchmark_words(server, words) + ["-n", str(requests), "--csv"],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for words, requests in loads]
    results = []
    for process in started:
        out, complaints = process.communicate(timeout=1800)
        results.append(figures(out, process.returncode, complaints))
    return results


@contextmanager
def background(server, words):
    """redis-benchmark over and over, for as long as the block runs."""
    process = subprocess.Popen(benchmark_words(server, words) + ["-l", "-q"],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
        if process.poll() is not None:
            raise RuntimeError("the load behind ended too early")
    finally:
        process.kill()
        process.wait()


class Probe:
    """A process of its own that sends one command each millisecond; see probe.py. In a `with` block; after it
    `result` has for each command its latencies in milliseconds."""

    def __init__(self, server, *commands):
        words = [sys.executable, os.path.join(HERE, "probe.py"), str(server.port)]
        self.process = subprocess.Popen(words + list(commands), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.result = None

    def __enter__(self):
        if self.process.stdout.readline() != b"ready\n":
            raise RuntimeError("the probe did not start")
        return self

    def __exit__(self, failed, *_):
        # The end of its input ends it.
        out, _ = self.process.communicate(timeout=600)
        if not failed:
            self.result = json.loads(out)


def write_huge(server, size, times):
    """One client that sets a key to a value of so many bytes, several times."""
    block = os.urandom(min(size, 1 << 20))
    with server.connect() as connection:
        for _ in range(times):
            connection.sendall(b"*3\r\n$3\r\nSET\r\n$4\r\nhuge\r\n$%d\r\n" % size)
            for _ in range(size // len(block)):
                connection.sendall(block)
            connection.sendall(b"\r\n")
            if connection.recv(100) != b"+OK\r\n":
                raise RuntimeError("the huge value was not taken")
        connection.sendall(request("DEL", "huge"))
        connection.recv(100)


class Doing:
    """A function on a thread for as long as a block runs, called again and again; its failure is the block's."""

    def __init__(self, function, every):
        self.ended, self.failure = threading.Event(), None

        def loop():
            try:
                while not self.ended.wait(every):
                    function()
            except Exception as failure:  # raised again where it is seen
                self.failure = failure

        self.thread = threading.Thread(target=loop)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, failed, *_):
        self.ended.set()
        self.thread.join()
        if self.failure and not failed:
            raise self.failure
