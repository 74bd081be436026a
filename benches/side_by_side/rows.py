"""The rows of the table that redis-benchmark alone can measure, kival and redis in turn. The longer ones are in
scenarios.py."""

from dataclasses import dataclass, field

import load
from report import Check
from servers import Server


@dataclass
class Bench:
    """What a measurement needs to know: which programs, where, how much of it, in which round."""

    kival: str
    redis: str
    folder: str
    smoke: bool
    round: int = 0
    rounds: int = 1
    rocksdb: bool = True

    def size(self, full, smoke):
        return smoke if self.smoke else full

    def server(self, peer, policy, **settings):
        """Starts a server; `settings` are kival's alone."""
        program = self.kival if peer == "kival" else self.redis
        settings = {name.replace("_", "-"): value for name, value in settings.items()}
        return Server(peer, program, self.folder, policy, settings if peer == "kival" else {})


@dataclass
class Row:
    """A row of the table. `measure` gives the figures of the reference and of kival in one round."""

    name: str
    what: str
    reference: str
    checks: list
    measure: object = field(repr=False)
    # A row that is measured inside itself as often as it takes has one round.
    once: bool = False


def in_turn(function):
    """Measures redis and kival one after the other, another one first in each round."""
    def measure(bench):
        peers = ["redis", "kival"] if bench.round % 2 == 0 else ["kival", "redis"]
        figures = {peer: function(bench, peer) for peer in peers}
        return figures["redis"], figures["kival"]
    return measure


def rate_and_cpu(rate, cpu):
    return [Check("rate", "requests", "/s", (">=", rate)), Check("cpu", "CPU a request", "us", ("<=", cpu))]


def simple(name, what, words, requests, checks, policy="everysec", keys=100_000, size=100, filled=False, **settings):
    """A row of one redis-benchmark on a fresh server."""
    def measure(bench, peer):
        space = bench.size(keys, min(keys, 1_000))
        with bench.server(peer, policy, **settings) as server:
            if filled:
                server.fill(space, size)
            wanted = bench.size(requests, max(1_000, requests // 100) if policy == "everysec" else 500)
            return load.measure(server, f"{words} -d {size} -r {space}", wanted)
    return Row(name, what, f"redis {policy}", checks, in_turn(measure))


def errors_too(checks):
    return checks + [Check("errors", "errors", "count", ("<=", 0), plain=True)]


def beside_writers(bench, peer):
    keys = bench.size(100_000, 1_000)
    with bench.server(peer, "always") as server:
        server.fill(keys, 64)
        with load.background(server, f"-t set -c 8 -d 64 -r {keys}"):
            return load.measure(server, f"-t get -c 50 -r {keys}", bench.size(300_000, 2_000))


def without_pipeline():
    for name, words, filled in [
        ("set", "-t set", False),
        ("get", "-t get", True),
        ("ping", "-t ping_mbulk", False),
        ("incr", "-t incr", False),
    ]:
        yield simple(name, f"{name.upper()}, 50 clients", f"{words} -c 50", 300_000, rate_and_cpu(1.05, 0.95),
                     filled=filled)


def pipelined():
    for depth, requests, rate, cpu in [(16, 1_500_000, 1.7, 0.6), (64, 2_000_000, 2.0, 0.5)]:
        for name in ["set", "incr"]:
            yield simple(f"{name}-p{depth}", f"{name.upper()}, pipeline {depth}", f"-t {name} -c 50 -P {depth}",
                         requests, rate_and_cpu(rate, cpu))
    for depth, requests, rate, cpu in [(16, 2_000_000, 1.4, 0.7), (64, 3_000_000, 1.9, 0.55)]:
        yield simple(f"get-p{depth}", f"GET, pipeline {depth}, values in the cache", f"-t get -c 50 -P {depth}",
                     requests, rate_and_cpu(rate, cpu), filled=True)
    yield simple("get-p16-uncached", "GET, pipeline 16, values in the page cache only", "-t get -c 50 -P 16",
                 2_000_000, [Check("rate", "requests", "/s", (">=", 1.0)), Check("cpu", "CPU a request", "us")],
                 filled=True, cache_size=0)


def always():
    rate = lambda target: [Check("rate", "requests", "/s", (">=", target))]
    yield simple("set-always", "SET, 50 clients, always", "-t set -c 50", 150_000, rate(1.6), policy="always")
    yield simple("set-always-c1", "SET, 1 client, always", "-t set -c 1", 10_000, rate(1.0), policy="always")
    checks = rate(1.5) + [Check("p99", "p99", "ms", ("<=", 0.5))]
    yield Row("get-beside-set", "GET by 50 clients beside 8 SET writers, always", "redis always", checks,
              in_turn(beside_writers))


def larger_values():
    for words, size, keys, sets, gets in [("4 KiB", 4 << 10, 20_000, 200_000, 200_000),
                                          ("64 KiB", 64 << 10, 2_000, 20_000, 40_000)]:
        checks = [Check("rate", "requests", "/s", (">=", 1.3)), Check("cpu", "CPU a request", "us")]
        name = words.lower().replace(" ", "").removesuffix("ib")
        yield simple(f"set-{name}", f"SET of {words}", "-t set -c 50", sets, checks, keys=keys, size=size)
        yield simple(f"get-{name}", f"GET of {words}", "-t get -c 50", gets, checks, keys=keys, size=size, filled=True)


def connections():
    for count in [500, 5_000]:
        yield simple(f"set-c{count}", f"SET, {count:,} connections", f"-t set -c {count}", 300_000,
                     errors_too([Check("rate", "requests", "/s", (">=", 1.0)), Check("cpu", "CPU a request", "us")]))


ROWS = [*without_pipeline(), *pipelined(), *always(), *larger_values(), *connections()]
