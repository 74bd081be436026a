"""Drives a server with redis-py: `redis_py.py PORT PROTOCOL`. Run by tests/clients.rs."""

import sys
import threading
import time

import redis

PORT, PROTOCOL = int(sys.argv[1]), int(sys.argv[2])
PATIENCE = 120


def connect(**settings):
    return redis.Redis(port=PORT, protocol=PROTOCOL, socket_timeout=PATIENCE, **settings)


def strings(r):
    assert r.set("k", "v") is True
    assert r.get("k") == b"v"
    assert r.get("none") is None
    assert r.set("k", "w", nx=True) is None
    assert r.set("k", "w", get=True) == b"v"
    assert r.append("k", "xyz") == 4
    assert r.getrange("k", 1, -2) == b"xy"
    assert r.setrange("k", 1, "XY") == 4
    assert r.strlen("k") == 4
    assert r.getdel("k") == b"wXYz"
    assert r.exists("k") == 0


def numbers(r):
    assert r.incr("n") == 1
    assert r.incrby("n", 41) == 42
    assert r.decr("n", 2) == 40
    assert r.incrbyfloat("n", 0.5) == 40.5


def binary(r):
    every_byte = bytes(range(256))
    assert r.set(every_byte, every_byte * 1000)
    assert r.get(every_byte) == every_byte * 1000
    assert r.keys() == [every_byte]


def decoded(_):
    r = connect(decode_responses=True)
    r.set("über", "größer")
    assert r.get("über") == "größer"
    assert r.keys() == ["über"]
    assert r.type("über") == "string"


def several(r):
    assert r.mset({"a": 1, "b": 2}) is True
    assert r.msetnx({"b": 3, "c": 3}) is False
    assert r.mget("a", "none", "b") == [b"1", None, b"2"]
    assert r.delete("a", "b", "none") == 2


def expiry(r):
    r.set("k", "v", ex=1000)
    assert 0 < r.ttl("k") <= 1000
    assert r.persist("k") is True
    assert r.ttl("k") == -1
    assert r.expireat("k", 4_000_000_000) is True
    assert r.expiretime("k") == 4_000_000_000
    assert r.expire("k", 10, gt=True) is False
    assert r.getex("k", px=1) == b"v"
    deadline = time.monotonic() + PATIENCE
    while r.exists("k"):
        assert time.monotonic() < deadline, "k never expires"
    assert r.ttl("k") == -2


def iteration(r):
    with r.pipeline(transaction=False) as pipe:
        for i in range(2500):
            pipe.set(f"key:{i}", i)
        assert pipe.execute() == [True] * 2500
    assert r.dbsize() == 2500
    assert set(r.scan_iter()) == {b"key:%d" % i for i in range(2500)}
    assert set(r.scan_iter(match="key:1?", count=7)) == {b"key:%d" % i for i in range(10, 20)}
    assert set(r.scan_iter(_type="hash")) == set()


def pipelines(r):
    with r.pipeline(transaction=False) as pipe:
        pipe.set("k", "v").incr("k").get("k")
        replies = pipe.execute(raise_on_error=False)
    assert replies[0] is True and replies[2] == b"v"
    assert isinstance(replies[1], redis.ResponseError), replies


def errors(r):
    r.set("k", "v")
    for arguments, text in [
        (("INCR", "k"), "value is not an integer or out of range"),
        (("NOSUCH", "k"), "unknown command 'NOSUCH'"),
        (("GET",), "wrong number of arguments for 'get' command"),
        (("RENAME", "none", "k"), "no such key"),
    ]:
        try:
            r.execute_command(*arguments)
        except redis.ResponseError as error:
            assert text in str(error), error
        else:
            raise AssertionError(f"{arguments} is to fail")
    assert r.get("k") == b"v"


def databases(r):
    other = connect(db=3)
    r.set("k", "0")
    assert other.get("k") is None
    assert r.move("k", 3) is True
    assert other.get("k") == b"0"
    assert r.swapdb(0, 3) is True
    assert r.get("k") == b"0"
    assert r.copy("k", "copy") is True
    assert r.rename("copy", "renamed") is True
    assert r.flushall() is True
    assert r.dbsize() == 0


def server(r):
    assert r.ping() is True
    assert r.echo("hello") == b"hello"
    assert isinstance(r.info()["redis_version"], str)
    assert "appendfsync" in r.config_get("appendfsync")
    assert r.client_setname("me") is True
    assert r.client_getname() in (b"me", "me")
    assert any(client["name"] == "me" for client in r.client_list())


def transactions(r):
    with r.pipeline() as pipe:
        pipe.watch("k")
        pipe.multi()
        pipe.set("k", "v").get("k")
        assert pipe.execute() == [True, b"v"]
        pipe.watch("k")
        r.set("k", "w")
        pipe.multi()
        pipe.set("k", "lost")
        try:
            pipe.execute()
        except redis.WatchError:
            pass
        else:
            raise AssertionError("the key has changed")
    assert r.get("k") == b"w"


def messages(r):
    listener = r.pubsub(ignore_subscribe_messages=True)
    listener.subscribe("news")
    listener.psubscribe("w*")
    deadline = time.monotonic() + PATIENCE
    while r.pubsub_numsub("news")[0][1] == 0 or r.pubsub_numpat() == 0:
        assert time.monotonic() < deadline, "nobody listens"
    assert r.publish("news", "hello") == 1
    assert r.publish("weather", "rain") == 1
    heard = []
    while len(heard) < 2:
        assert time.monotonic() < deadline, heard
        message = listener.get_message(timeout=1)
        if message:
            heard.append((message["pattern"], message["channel"], message["data"]))
    assert heard == [(None, b"news", b"hello"), (b"w*", b"weather", b"rain")], heard
    listener.close()


def pool(_):
    shared = redis.Redis(connection_pool=redis.ConnectionPool(port=PORT, protocol=PROTOCOL))

    def count():
        for _ in range(100):
            shared.incr("counter")

    threads = [threading.Thread(target=count) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shared.get("counter") == b"2000"


CHECKS = [
    strings,
    numbers,
    binary,
    decoded,
    several,
    expiry,
    iteration,
    pipelines,
    errors,
    databases,
    server,
    transactions,
    messages,
    pool,
]

for check in CHECKS:
    client = connect()
    client.flushall()
    check(client)
print(len(CHECKS), "checks done")
