"""Asks a server at a fixed rate, one command each millisecond in turn, until its input ends; prints latencies.

    probe.py PORT COMMAND...        a COMMAND being words, as 'GET key:000000000001'

A slow reply keeps back those that were due meanwhile. Each of them counts with the time that it would have
waited, or one long stall would be a single sample among thousands."""

import json
import selectors
import socket
import sys
import time

from servers import request

EVERY = 0.001
# Samples before this many seconds are for warming up.
WARM = 0.3


def ask(connection, message):
    connection.sendall(message)
    reply = connection.recv(1 << 16)
    if not reply or reply[:1] == b"-":
        raise SystemExit(f"the probe was answered {reply!r}")
    if reply[:1] == b"$" and reply[:3] != b"$-1":
        expected = reply.index(b"\r\n") + 4 + int(reply[1:reply.index(b"\r\n")])
        while len(reply) < expected:
            reply += connection.recv(1 << 16)


def summary(samples):
    samples.sort()
    at = lambda part: samples[min(len(samples) - 1, int(part * len(samples)))] * 1e3
    return {"count": len(samples), "p50": at(0.5), "p99": at(0.99), "p999": at(0.999), "max": samples[-1] * 1e3}


def main():
    port, commands = int(sys.argv[1]), sys.argv[2:]
    connection = socket.create_connection(("127.0.0.1", port), 600)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    messages = [(name, request(*name.split())) for name in commands]
    samples = {name: [] for name in commands}
    end = selectors.DefaultSelector()
    end.register(sys.stdin, selectors.EVENT_READ)
    print("ready", flush=True)
    began = time.perf_counter()
    turn = 0
    while not end.select(EVERY):
        name, message = messages[turn % len(messages)]
        turn += 1
        sent = time.perf_counter()
        ask(connection, message)
        took = time.perf_counter() - sent
        if sent - began < WARM:
            continue
        # Every other command had its turns among those that were kept back.
        step = EVERY * len(messages)
        while took > 0:
            samples[name].append(took)
            took -= step
    print(json.dumps({name: summary(taken) for name, taken in samples.items() if taken}), flush=True)


if __name__ == "__main__":
    main()
