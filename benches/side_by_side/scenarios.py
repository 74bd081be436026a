"""The rows of the table that take a story: a store filled and started again, a compaction under load, a disk
that has to be read, values that are huge. Where the reference is kival itself, without the disturbance, both
sides come from one server."""

import json
import os
import subprocess
import time

import disk
import load
from report import Check
from rows import Row, in_turn
from servers import key

HERE = os.path.dirname(os.path.abspath(__file__))
EVERYSEC = "everysec"


def sustained(bench):
    """64 KiB values for longer than the page cache can hide the disk, until they are on it."""
    total = bench.size(2 * disk.dirty_limit(), 32 << 20)
    plain, path = disk.sequential_write(bench.folder, total)
    os.remove(path)
    requests = total >> 16
    with bench.server("kival", EVERYSEC) as server:
        began = time.monotonic()
        # Keys hardly ever come twice: nothing is dead, nothing is compacted.
        load.measure(server, "-t set -c 50 -d 65536 -r 1000000000", requests)
        server.demand("WAITAOF", 1, 0, 600_000)
        return {"bytes": plain}, {"bytes": requests * (64 << 10) / (time.monotonic() - began)}


def million_keys(bench, peer):
    """Memory a key; restart after kill -9 and after a clean stop; and once more with a cold page cache, where
    the hints come from the disk. The disk's own speed stands with the reference."""
    keys = bench.size(5_000_000, 20_000)
    with bench.server(peer, EVERYSEC, cache_size=0) as server:
        server.fill(keys, 100)
        server.settle()
        figures = {"memory": server.resident() / keys}
        server.kill()
        figures["killed"] = started(server, keys)
        server.settle()
        server.stop()
        figures["clean"] = started(server, keys)
        server.stop()
        if peer == "kival":
            hints = server.files(".hint")
            size = sum(os.path.getsize(path) for path in hints)
            disk.forget(hints)
            figures["hints"] = size / started(server, keys)
    if peer == "redis":
        figures["hints"] = disk.sequential_read(bench.folder, bench.size(1 << 30, 16 << 20))
    return figures


def started(server, keys):
    """Seconds until it serves again, with all keys."""
    seconds = server.start()
    if (there := server.keys()) != keys:
        raise RuntimeError(f"{there} of {keys} keys came back")
    return seconds


def growth(bench):
    """The most entries that one insert had to move while the keydir grew."""
    with bench.server("kival", "no", cache_size=0) as server:
        server.fill(bench.size(20_000_000, 50_000), 10)
        return {}, {"moved": int(server.info()["kival_keydir_moved_max"])}


def under_compaction(bench):
    """GET and SET at full speed, without a merge and during one over 4 GB, half of it dead."""
    keys = bench.size(2_000_000, 40_000)
    loads = [(f"-t {name} -c 25 -d 1000 -r {keys}", bench.size(200_000, 2_000)) for name in ["get", "set"]]

    def measured(server):
        get, put = load.measure_together(server, loads)
        return {"rate": get["rate"] + put["rate"], "get": get["p99"], "set": put["p99"]}

    with bench.server("kival", EVERYSEC, auto_aof_rewrite_percentage=0) as server:
        server.fill(keys, 1000, times=2)
        without = measured(server)
        server.demand("KIVAL", "COMPACT")
        during = measured(server)
        running = server.info()["aof_rewrite_in_progress"] == "1"
        # 1 where the merge outlasted the load, as it should.
        return without, {**during, "outlasted": int(running)}


def cold_reads(bench):
    """Reads of the disk by four clients; another one asks for PING and for a value that is in the cache. What of its
    waiting is the machine's shows at a redis-server that has nothing else to do."""
    keys = bench.size(260_000, 5_000)
    seconds = bench.size(6, 1)
    hot = "GET " + key(0).decode()

    def probed(server):
        with load.Probe(server, "PING", hot) as probe:
            time.sleep(seconds)
        return {"ping": probe.result["PING"]["p99"], "get": probe.result[hot]["p99"]}

    def probed_idle():
        with load.Probe(idle, "PING") as probe:
            time.sleep(seconds)
        return probe.result["PING"]["p99"]

    with bench.server("kival", EVERYSEC, cache_size=bench.size("64mb", "1mb")) as server, \
            bench.server("redis", EVERYSEC) as idle:
        # Four times the cache.
        server.fill(keys, 1000)
        without = {**probed(server), "idle": probed_idle()}
        disk.forget(server.files(".seg"))
        forget = lambda: disk.forget(server.files(".seg"), everything=False)
        before = int(server.info()["kival_cold_reads"])
        with load.Doing(forget, 0.02), load.background(server, f"-t get -c 4 -r {keys}"):
            beside = probed(server)
            reads = int(server.info()["kival_cold_reads"]) - before
            idle_p99 = probed_idle()
        return without, {**beside, "reads": reads / seconds, "idle": idle_p99}


def beside_huge(bench):
    """One client writes values of 512 MB, another one reads a small one."""
    size = bench.size(512 << 20, 8 << 20)
    get = "GET " + key(0).decode()
    with bench.server("kival", EVERYSEC) as server:
        server.fill(1, 100)
        with load.Probe(server, get) as probe:
            time.sleep(bench.size(4, 1))
        without = probe.result[get]["p99"]
        with load.Probe(server, get) as probe:
            # The probe warms up.
            time.sleep(0.4)
            load.write_huge(server, size, 3)
        with bench.server("redis", EVERYSEC) as idle, load.Probe(idle, "PING") as at_idle:
            time.sleep(0.4)
            load.write_huge(server, size, 3)
        return {"p99": without}, {"p99": probe.result[get]["p99"], "idle": at_idle.result["PING"]["p99"]}


def overwritten(bench):
    """Random overwrites of six times the live bytes, the segments sampled every 20 ms."""
    keys = bench.size(1_000_000, 5_000)
    segment = bench.size(256 << 20, 1 << 20)
    settings = {} if not bench.smoke else {"segment_size": segment, "auto_aof_rewrite_min_size": "1mb"}
    most = {"disk": 0.0, "plain": 0.0}
    with bench.server("kival", EVERYSEC, **settings) as server:
        server.fill(keys, 1000)

        def sample():
            live = int(server.info()["kival_live_bytes"])
            taken = disk.allocated(server.files(".seg"))
            most["plain"] = max(most["plain"], taken)
            most["disk"] = max(most["disk"], (taken - 2 * segment) / live)

        with load.Doing(sample, 0.02):
            load.measure(server, f"-t set -c 50 -P 16 -d 1000 -r {keys}", 6 * keys)
        live = int(server.info()["kival_live_bytes"])
        return {"plain": live}, {"plain": most["plain"], "disk": most["disk"]}


def engine_alone(bench):
    """The program of benches/rivals, which makes rounds of its own."""
    words = ["cargo", "run", "--release", "--quiet", "--manifest-path", os.path.join(HERE, "../rivals/Cargo.toml")]
    words += [] if bench.rocksdb else ["--no-default-features"]
    words += ["--", "--json", "--dir", bench.folder, "--rounds", str(bench.rounds)]
    if bench.smoke:
        words += ["--keys", "20000", "--synced", "50"]
    out = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout
    rows = {row["what"]: row for row in json.loads(out)}
    best = {what: row["rates"][row["best rival"]] for what, row in rows.items()}
    return best, {what: row["rates"]["kival"] for what, row in rows.items()}


RIVALS = ["put, no sync", "put in batches of 1,000, no sync", "put in batches of 1,000, a sync each",
          "put, a sync each", "get, cache holds all", "get, cache holds few"]
QUIET = "kival without it"

SCENARIOS = [
    Row("set-64k-sustained", "SET of 64 KiB, twice the dirty limit", "plain writer",
        [Check("bytes", "written", "MB/s", (">=", 0.8))], sustained),
    Row("5m-keys", "5 million keys", "redis everysec", [
        Check("memory", "resident memory a key", "bytes", ("<=", 0.28)),
        Check("clean", "restart after a clean stop", "s", ("<=", 0.12)),
        Check("killed", "restart after kill -9", "s", ("<=", 0.25)),
        Check("hints", "hints read at a start from the disk", "MB/s", (">=", 0.5), reference="plain reader"),
    ], in_turn(million_keys)),
    Row("keydir-growth", "keydir, 0 to 20 million keys", "-",
        [Check("moved", "most entries moved in one insert", "count", ("<=", 1024), plain=True)], growth, once=True),
    Row("compaction", "load during compaction of 4 GB", QUIET, [
        Check("get", "p99 of GET", "ms", ("<=", 1.5)),
        Check("set", "p99 of SET", "ms", ("<=", 1.5)),
        Check("rate", "requests", "/s", (">=", 0.85)),
        Check("outlasted", "the merge outlasted the load (1: yes)", "count", (">=", 1), plain=True),
    ], under_compaction),
    Row("cold-reads", "beside cold reads, data 4 x the cache", QUIET, [
        Check("ping", "p99 of PING", "ms", ("<=", 1.5)),
        Check("get", "p99 of a hot GET", "ms", ("<=", 1.5)),
        Check("reads", "cold reads", "/s"),
        Check("idle", "p99 of PING at an idle redis-server", "ms"),
    ], cold_reads),
    Row("huge-values", "beside a client that writes 512 MB values", QUIET,
        [Check("p99", "p99 of GET", "ms", ("<=", 3)), Check("idle", "p99 of PING at an idle redis-server", "ms")],
        beside_huge),
    Row("engine", "engine alone, 1 million keys", "the best rival",
        [Check(what, what, "/s", (">=", 1.5)) for what in RIVALS], engine_alone, once=True),
    Row("disk", "steady random overwrite of 1 GB", "live bytes", [
        Check("plain", "most bytes of segments on disk", "MB"),
        Check("disk", "(that - 2 segments) / live bytes", "", ("<=", 2.0), plain=True),
    ], overwritten),
]
