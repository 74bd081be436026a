"""Copies all keys of one server to another, with their expiries: `copy_keys.py URL URL`, as in
`copy_keys.py redis://127.0.0.1:6379/0 redis://127.0.0.1:6380/0`. One of the two may be kival; or both, or none.

SCAN walks the source while it serves; DUMP and RESTORE carry the values. Keys of the same names are replaced."""

import sys

import redis

STEP = 1000


def copy(source, target):
    copied = 0
    keys = []

    def move():
        with source.pipeline(transaction=False) as asked:
            for key in keys:
                asked.dump(key)
                asked.pexpiretime(key)
            answers = asked.execute()
        with target.pipeline(transaction=False) as sent:
            for key, payload, expiry in zip(keys, answers[::2], answers[1::2]):
                # What is gone meanwhile has no payload.
                if payload is not None and expiry != -2:
                    sent.restore(key, max(expiry, 0), payload, replace=True, absttl=True)
            return len(sent.execute())

    for key in source.scan_iter(count=STEP):
        keys.append(key)
        if len(keys) == STEP:
            copied += move()
            keys.clear()
    return copied + move()


if __name__ == "__main__":
    print(copy(*(redis.Redis.from_url(url) for url in sys.argv[1:])), "keys copied")
