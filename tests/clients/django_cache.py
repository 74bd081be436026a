"""A Django cache and Django's sessions over django-redis: `django_cache.py PORT`. Run by tests/programs.rs."""

import sys
import time

import django
from django.conf import settings

PORT = int(sys.argv[1])
PATIENCE = 120

settings.configure(
    CACHES={
        "default": {
            "BACKEND": "django_redis.cache.RedisCache",
            "LOCATION": f"redis://127.0.0.1:{PORT}/1",
            "KEY_PREFIX": "site",
        },
        "packed": {
            "BACKEND": "django_redis.cache.RedisCache",
            "LOCATION": f"redis://127.0.0.1:{PORT}/2",
            "OPTIONS": {"COMPRESSOR": "django_redis.compressors.zlib.ZlibCompressor"},
        },
        "plain": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": f"redis://127.0.0.1:{PORT}/3",
        },
    },
    SESSION_ENGINE="django.contrib.sessions.backends.cache",
    SECRET_KEY="of this test",
)
django.setup()

from django.contrib.sessions.backends.cache import SessionStore  # noqa: E402
from django.core.cache import caches  # noqa: E402


def values(cache):
    cache.set("k", {"any": ["value", 1, None]})
    assert cache.get("k") == {"any": ["value", 1, None]}
    assert cache.get("none", "default") == "default"
    assert "k" in cache and "none" not in cache
    assert cache.add("k", 1) is False and cache.add("new", 1) is True
    assert cache.delete("k") and not cache.delete("k")
    assert cache.get_or_set("made", lambda: 5) == 5
    cache.set("versioned", "old", version=1)
    assert cache.incr_version("versioned") == 2
    assert cache.get("versioned", version=2) == "old"


def numbers(cache):
    cache.set("n", 40)
    assert cache.incr("n", 2) == 42
    assert cache.decr("n") == 41
    try:
        cache.incr("none")
    except ValueError:
        pass
    else:
        raise AssertionError("there is nothing to add to")


def many(cache):
    cache.set_many({f"k{i}": i for i in range(500)}, timeout=1000)
    assert cache.get_many([f"k{i}" for i in range(600)]) == {f"k{i}": i for i in range(500)}
    cache.delete_many(["k1", "k2"])
    assert cache.get("k1") is None and cache.get("k3") == 3


def expiry(cache):
    cache.set("k", "v", timeout=0.05)
    deadline = time.monotonic() + PATIENCE
    while cache.get("k") is not None:
        assert time.monotonic() < deadline, "k never expires"
    cache.set("k", "v", timeout=1)
    assert cache.touch("k", 1000) is True
    assert cache.touch("none", 1000) is False


def of_django_redis(cache):
    cache.set("k", "v", timeout=1000)
    assert 0 < cache.ttl("k") <= 1000
    assert cache.persist("k") and cache.ttl("k") is None
    assert cache.expire("k", timeout=500) and 0 < cache.ttl("k") <= 500
    assert cache.set("k", "w", nx=True) is False
    cache.set_many({f"user:{i}": i for i in range(50)})
    assert sorted(cache.iter_keys("user:1*")) == sorted(["user:1"] + [f"user:{i}" for i in range(10, 20)])
    assert cache.delete_pattern("user:*") == 50
    assert cache.keys("user:*") == []


def clearing(_):
    for name in ("default", "packed", "plain"):
        caches[name].set("k", "v" * 1000)
    caches["plain"].clear()
    assert caches["plain"].get("k") is None
    assert caches["packed"].get("k") == "v" * 1000


def sessions(_):
    session = SessionStore()
    session["cart"] = [1, 2, 3]
    session.save()
    again = SessionStore(session.session_key)
    assert again["cart"] == [1, 2, 3]
    again.cycle_key()
    assert not SessionStore().exists(session.session_key)
    again.flush()
    assert SessionStore(again.session_key).get("cart") is None


CHECKS = [values, many, expiry, of_django_redis, clearing, sessions]

for check in CHECKS:
    for cache in caches.all():
        cache.clear()
    for name in ("default", "packed", "plain"):
        caches[name].clear()
    check(caches["default"])
for check in (values, numbers, many):
    caches["plain"].clear()
    check(caches["plain"])
print(len(CHECKS) + 3, "checks done")
