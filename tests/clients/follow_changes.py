"""Keeps a copy of a kival in another server, by its change feed: `follow_changes.py URL URL [seconds]`, as in
`follow_changes.py redis://127.0.0.1:6380 redis://127.0.0.1:6379`. The second may be redis-server or kival.

The place in the feed stands in the copy itself and changes in the same transaction as what it says, so either side
and the script may stop at any time. Where the feed has a gap all keys are copied once. With seconds the script ends
when nothing has come for so long.

The copy has no times of expiry. A key that expires comes as a delete, however late; by its own clock the copy might
drop one that was given more time meanwhile, and nothing would bring it back."""

import sys

import redis

PLACE = "kival:changes:place"


def ask_changes(source, place, *words):
    return source.execute_command("KIVAL", "CHANGES", "SINCE", place, *words)


def copy_all(source, target):
    """All keys as they are now; the place from which changes have to follow."""
    while True:
        place = copy_once(source, target)
        # Databases that were exchanged meanwhile would be so once more by the change that tells of it, which is shown
        # when it is on disk.
        source.execute_command("WAITAOF", 1, 0, 0)
        reached, exchanged, changes = place, False, True
        while changes and not exchanged:
            reached, changes = ask_changes(source, reached)
            exchanged = any(change[1] == b"swap" for change in changes)
        if not exchanged:
            return place


def copy_once(source, target):
    # First the place: what is written while the keys are copied comes again as a change.
    place, _ = ask_changes(source, "$")
    target.flushall()
    databases = int(source.config_get("databases")["databases"])
    for db in range(databases):
        source.execute_command("SELECT", db)
        target.execute_command("SELECT", db)
        for key in source.scan_iter(count=1000):
            # Not in a pipeline: that has a connection of its own, on which no database was selected.
            value = source.get(key)
            # What goes meanwhile comes as a change.
            if value is not None:
                target.set(key, value)
    target.execute_command("SELECT", 0)
    target.set(PLACE, place)
    return place


def apply(change, sent):
    _, kind, db, key, value, begin = change  # the last is the time of expiry, but of a part where it begins
    sent.execute_command("SELECT", db)
    match kind.decode():
        case "set":
            sent.set(key, value)
        case "part":
            sent.setrange(key, begin, value)
        case "delete":
            sent.delete(key)
        case "expire" | "persist":
            pass
        case "flush":
            sent.flushdb()
        case "swap":
            sent.swapdb(db, key)


def follow(source, target, patience):
    place = int(target.get(PLACE) or 0)
    while True:
        try:
            reached, changes = ask_changes(source, place, "BLOCK", int(patience * 1000), "WITHVALUES")
        except redis.ResponseError as error:
            if not str(error).startswith("GAP"):
                raise
            place = copy_all(source, target)
            continue
        if not changes and patience:
            return
        with target.pipeline() as sent:
            # Out of the way: an exchange of databases would take it along.
            sent.execute_command("SELECT", 0)
            sent.delete(PLACE)
            for change in changes:
                apply(change, sent)
            sent.execute_command("SELECT", 0)
            sent.set(PLACE, reached)
            sent.execute()
        place = reached


if __name__ == "__main__":
    # One connection each: the selected database is a connection's own.
    servers = [redis.Redis.from_url(url, single_connection_client=True) for url in sys.argv[1:3]]
    follow(*servers, patience=float(sys.argv[3]) if len(sys.argv) > 3 else 0)
