"""The disk by itself: sequential write and read by the plainest program, the dirty limit of the page cache, and
making the system forget what it has cached."""

import os
import time

BLOCK = 1 << 20


def dirty_limit():
    """Bytes that the page cache may hold unwritten before writers are slowed to the disk's pace."""
    def setting(name):
        with open(f"/proc/sys/vm/{name}") as file:
            return int(file.read())

    with open("/proc/meminfo") as meminfo:
        available = next(int(line.split()[1]) * 1024 for line in meminfo if line.startswith("MemAvailable"))
    return setting("dirty_bytes") or available * setting("dirty_ratio") // 100


def sequential_write(folder, size):
    """Bytes a second of writing a file and making it durable at the end. The file is left; its path too."""
    path = os.path.join(folder, "sequential")
    block = os.urandom(BLOCK)
    file = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
    began = time.monotonic()
    try:
        for _ in range(max(1, size // BLOCK)):
            written = 0
            while written < BLOCK:
                written += os.write(file, block[written:] if written else block)
        os.fdatasync(file)
    finally:
        os.close(file)
    return max(BLOCK, size) / (time.monotonic() - began), path


def sequential_read(folder, size):
    """Bytes a second of reading a file that is not in memory."""
    _, path = sequential_write(folder, size)
    try:
        forget([path])
        file = os.open(path, os.O_RDONLY)
        buffer = bytearray(BLOCK)
        began = time.monotonic()
        try:
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_SEQUENTIAL)
            total = 0
            while read := os.readv(file, [buffer]):
                total += read
        finally:
            os.close(file)
        return total / (time.monotonic() - began)
    finally:
        os.remove(path)


def forget(paths, everything=True):
    """Lets the system drop what it has cached: of everything where we may, else of these files."""
    if everything and os.geteuid() == 0:
        os.sync()
        try:
            with open("/proc/sys/vm/drop_caches", "w") as switch:
                switch.write("1")
            return
        except OSError:
            pass
    for path in paths:
        try:
            file = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            continue
        try:
            if everything:
                os.fdatasync(file)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(file)


def allocated(paths):
    """Bytes that the files take on the disk. One that is gone by now takes none."""
    total = 0
    for path in paths:
        try:
            total += os.stat(path).st_blocks * 512
        except FileNotFoundError:
            pass
    return total
