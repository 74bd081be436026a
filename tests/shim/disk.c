/* A disk that can lose its cache, and a death at an exact call: preloaded into the server by the crash tests.
 *
 * It notes in KIVAL_SHIM_DIR/notes what of the data directory KIVAL_SHIM_DATA is durable, so that after the
 * death of the server tests/support/src/disk.rs can take back the rest:
 *     C inode path    created, or emptied: nothing of it is durable
 *     W time inode offset size    so much was written there, by this time (of the monotonic clock, in nanoseconds)
 *     S time inode size    a sync of the file that began at this time, when it had this size, is done
 *     R keep from to  renamed; what stood there before is kept as KIVAL_SHIM_DIR/keep
 *     U keep path     unlinked, and kept
 *     L path          linked
 *     D path          this directory is synced
 * Only libc's calls are seen. The server's writes and syncs are libc's; it reserves space and reads without
 * libc, which changes neither a size nor an entry.
 *
 * KIVAL_SHIM_KILL_AT=n   kills the process at its n-th call; a write is done by half before, if n is odd.
 * KIVAL_SHIM_FAIL_FROM=n from its n-th call on every call fails with EIO: the disk is gone, the process lives.
 * KIVAL_SHIM_LIE_AFTER=n after n syncs of files says that files are synced, and does nothing: the control.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int notes = -1;
static const char *dir, *data;
static long kill_at = -1, fail_from = -1, lie_after = -1;
static atomic_long calls, syncs, kept;

static long number(const char *name) {
    const char *text = getenv(name);
    return text ? atol(text) : -1;
}

__attribute__((constructor)) static void begin(void) {
    dir = getenv("KIVAL_SHIM_DIR");
    data = getenv("KIVAL_SHIM_DATA");
    kill_at = number("KIVAL_SHIM_KILL_AT");
    fail_from = number("KIVAL_SHIM_FAIL_FROM");
    lie_after = number("KIVAL_SHIM_LIE_AFTER");
    if (!dir || !data) return;
    char path[4096];
    snprintf(path, sizeof path, "%s/notes", dir);
    notes = REAL(open64)(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (notes < 0) abort();
}

/* One write to a file opened for appending: lines of several threads do not mix, and survive the process. */
static void note(const char *format, ...) {
    char line[9000];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (write(notes, line, length) != length) abort();
}

/* Whether a path names a file in the data directory itself. What stands in directories below it (backups) is let
 * be: they are made and removed by calls that are not seen here. */
static int ours(const char *path) {
    size_t length = strlen(data);
    if (notes < 0 || strncmp(path, data, length) != 0) return 0;
    const char *name = path + length + strspn(path + length, "/");
    return !strchr(name, '/');
}

/* Counts a call. Whether it fails; it does not come back from the one at which the process dies. `before` is what
 * half of the calls still do then. */
static int call(void (*before)(void *), void *with) {
    long n = atomic_fetch_add(&calls, 1) + 1;
    if (n == kill_at) {
        if (before && n % 2) before(with);
        kill(getpid(), SIGKILL);
        for (;;) pause();
    }
    if (fail_from > 0 && n >= fail_from) {
        errno = EIO;
        return 1;
    }
    return 0;
}

/* Gives what stands at `path` a second name, so that its end can be taken back. */
static long keep(const char *path) {
    long number = (long)getpid() * 1000000 + atomic_fetch_add(&kept, 1);
    char to[4096];
    snprintf(to, sizeof to, "%s/%ld", dir, number);
    REAL(linkat)(AT_FDCWD, path, AT_FDCWD, to, 0);
    return number;
}

int open64(const char *path, int flags, ...) {
    va_list args;
    va_start(args, flags);
    mode_t mode = flags & O_CREAT ? va_arg(args, mode_t) : 0;
    va_end(args);
    if (!ours(path)) return REAL(open64)(path, flags, mode);
    if (call(0, 0)) return -1;
    int existed = access(path, F_OK) == 0;
    int fd = REAL(open64)(path, flags, mode);
    struct stat st;
    if (fd >= 0 && (flags & O_CREAT) && (!existed || (flags & O_TRUNC)) && fstat(fd, &st) == 0)
        note("C %lu %s\n", (unsigned long)st.st_ino, path);
    return fd;
}

static long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000L + time.tv_nsec;
}

struct writing {
    int fd;
    const void *buf;
    size_t size;
    off64_t offset;
};

static void write_half(void *with) {
    struct writing *w = with;
    REAL(pwrite64)(w->fd, w->buf, w->size / 2, w->offset);
}

ssize_t pwrite64(int fd, const void *buf, size_t size, off64_t offset) {
    struct writing writing = {fd, buf, size, offset};
    if (call(write_half, &writing)) return -1;
    ssize_t written = REAL(pwrite64)(fd, buf, size, offset);
    struct stat st;
    if (written > 0 && notes >= 0 && fstat(fd, &st) == 0)
        note("W %ld %lu %ld %ld\n", now(), (unsigned long)st.st_ino, (long)offset, (long)written);
    return written;
}

static int synced(int fd, int (*real)(int)) {
    if (call(0, 0)) return -1;
    struct stat st;
    if (notes < 0 || fstat(fd, &st) != 0) return real(fd);
    if (S_ISREG(st.st_mode) && atomic_fetch_add(&syncs, 1) >= lie_after && lie_after >= 0) return 0;
    long began = now();
    int result = real(fd);
    if (result != 0) return result;
    if (S_ISREG(st.st_mode)) note("S %ld %lu %ld\n", began, (unsigned long)st.st_ino, (long)st.st_size);
    if (S_ISDIR(st.st_mode)) {
        char link[64], path[4096];
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t length = readlink(link, path, sizeof path - 1);
        if (length > 0) note("D %.*s\n", (int)length, path);
    }
    return 0;
}

int fdatasync(int fd) { return synced(fd, REAL(fdatasync)); }
int fsync(int fd) { return synced(fd, REAL(fsync)); }

int ftruncate64(int fd, off64_t length) {
    if (call(0, 0)) return -1;
    return REAL(ftruncate64)(fd, length);
}

int rename(const char *from, const char *to) {
    if (!ours(to)) return REAL(rename)(from, to);
    if (call(0, 0)) return -1;
    long number = keep(to);
    int result = REAL(rename)(from, to);
    if (result == 0) note("R %ld %s %s\n", number, from, to);
    return result;
}

int unlink(const char *path) {
    if (!ours(path)) return REAL(unlink)(path);
    if (call(0, 0)) return -1;
    long number = keep(path);
    int result = REAL(unlink)(path);
    if (result == 0) note("U %ld %s\n", number, path);
    return result;
}

int linkat(int from_dir, const char *from, int to_dir, const char *to, int flags) {
    if (call(0, 0)) return -1;
    int result = REAL(linkat)(from_dir, from, to_dir, to, flags);
    if (result == 0 && ours(to)) note("L %s\n", to);
    return result;
}
