/* A disk that fails, and a power that goes, at the n-th call that changes something below a folder.
 *
 * Loaded by LD_PRELOAD and armed by fault_arm, it counts these calls of glibc's: open, open64, openat, openat64 and
 * creat for writing; write, pwrite, pwrite64 and writev; fsync and fdatasync; rename, renameat and renameat2;
 * truncate, ftruncate and their 64-bit twins; unlink, unlinkat and rmdir; mkdir. Not reached: what glibc calls within
 * itself (fopen and fwrite, so numpy.save to a file's name), and memory maps. At the n-th it does what the
 * kind says. All processes that have FAULT_SHARED, a file, in their environment share fault and count.
 *
 *   FAIL   the call fails, once, with the error number
 *   FULL   it and all calls after it that could need room fail: the disk stays full
 *   SIGNAL the process gets the signal before the call; of a write, after half of it, if it is SIGKILL
 *   CRASH  SIGKILL after the call
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

enum { NOTHING, FAIL, FULL, SIGNAL, CRASH };

struct armed {
    long count, at;
    int kind, value;
    char folder[PATH_MAX];
};
static struct armed *armed;

/* Count anew below a folder; at 0 nothing happens. */
void fault_arm(const char *folder, long at, int kind, int value);

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("FAULT_SHARED");
    int file = path ? REAL(open)(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;
    if (file < 0 || REAL(ftruncate)(file, sizeof *armed)) abort();
    armed = mmap(NULL, sizeof *armed, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (armed == MAP_FAILED) abort();
}

void fault_arm(const char *folder, long at, int kind, int value) {
    armed->count = 0;
    armed->at = at;
    armed->kind = kind;
    armed->value = value;
    snprintf(armed->folder, sizeof armed->folder, "%s", folder);
}

/* Calls counted so far. */
long fault_count(void) { return armed->count; }

static int is_below(const char *path) {
    size_t n = strlen(armed->folder);
    return n && !strncmp(path, armed->folder, n) && (path[n] == '/' || !path[n]);
}

static int path_is_below(int at, const char *path) {
    char link[64], full[PATH_MAX];
    if (!armed || !armed->folder[0]) return 0;
    if (path[0] == '/') return is_below(path);
    snprintf(link, sizeof link, at == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", at);
    ssize_t n = readlink(link, full, sizeof full - 1);
    if (n < 0) return 0;
    snprintf(full + n, sizeof full - n, "/%s", path);
    return is_below(full);
}

static int file_is_below(int fd) {
    char link[64], full[PATH_MAX];
    if (!armed || !armed->folder[0]) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, full, sizeof full - 1);
    if (n < 0) return 0;
    full[n] = 0;
    return is_below(full);
}

/* What is to happen at this call: 0: nothing, 1: it fails, 2: the process is killed within or after it. */
static int turn(int counts, int needs_room) {
    if (!counts) return 0;
    long n = __sync_add_and_fetch(&armed->count, 1);
    if (!armed->at || n < armed->at) return 0;
    if (armed->kind == FULL && (needs_room || n == armed->at)) { errno = armed->value; return 1; }
    if (n != armed->at) return 0;
    if (armed->kind == FAIL) { errno = armed->value; return 1; }
    if (armed->kind == CRASH) return 2;
    if (armed->kind == SIGNAL && armed->value == SIGKILL) return 2;
    if (armed->kind == SIGNAL) kill(getpid(), armed->value);
    return 0;
}

static void die(void) { kill(getpid(), SIGKILL); for (;;) pause(); }

#define CALL(type, name, counts, needs_room, ...)                      \
    do {                                                               \
        int what = turn(counts, needs_room);                           \
        if (what == 1) return -1;                                      \
        if (what == 2 && armed->kind == SIGNAL) die();                 \
        type result = REAL(name)(__VA_ARGS__);                         \
        if (what == 2) die();                                          \
        return result;                                                 \
    } while (0)

#define WRITES(flags) ((flags) & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC))
#define MODE(flags)                                                    \
    mode_t mode = 0;                                                   \
    if ((flags) & (O_CREAT | O_TMPFILE)) {                             \
        va_list more;                                                  \
        va_start(more, flags);                                         \
        mode = va_arg(more, mode_t);                                   \
        va_end(more);                                                  \
    }

int open(const char *path, int flags, ...) {
    MODE(flags);
    CALL(int, open, WRITES(flags) && path_is_below(AT_FDCWD, path), 1, path, flags, mode);
}
int open64(const char *path, int flags, ...) {
    MODE(flags);
    CALL(int, open64, WRITES(flags) && path_is_below(AT_FDCWD, path), 1, path, flags, mode);
}
int openat(int at, const char *path, int flags, ...) {
    MODE(flags);
    CALL(int, openat, WRITES(flags) && path_is_below(at, path), 1, at, path, flags, mode);
}
int openat64(int at, const char *path, int flags, ...) {
    MODE(flags);
    CALL(int, openat64, WRITES(flags) && path_is_below(at, path), 1, at, path, flags, mode);
}
int creat(const char *path, mode_t mode) { CALL(int, creat, path_is_below(AT_FDCWD, path), 1, path, mode); }
int mkdir(const char *path, mode_t mode) { CALL(int, mkdir, path_is_below(AT_FDCWD, path), 1, path, mode); }

ssize_t write(int fd, const void *data, size_t n) {
    int what = turn(file_is_below(fd), 1);
    if (what == 1) return -1;
    ssize_t result = REAL(write)(fd, data, what == 2 && armed->kind == SIGNAL ? n / 2 : n);
    if (what == 2) die();
    return result;
}
ssize_t pwrite(int fd, const void *data, size_t n, off_t at) {
    int what = turn(file_is_below(fd), 1);
    if (what == 1) return -1;
    ssize_t result = REAL(pwrite)(fd, data, what == 2 && armed->kind == SIGNAL ? n / 2 : n, at);
    if (what == 2) die();
    return result;
}
ssize_t pwrite64(int fd, const void *data, size_t n, off64_t at) {
    int what = turn(file_is_below(fd), 1);
    if (what == 1) return -1;
    ssize_t result = REAL(pwrite64)(fd, data, what == 2 && armed->kind == SIGNAL ? n / 2 : n, at);
    if (what == 2) die();
    return result;
}
ssize_t writev(int fd, const struct iovec *parts, int n) { CALL(ssize_t, writev, file_is_below(fd), 1, fd, parts, n); }
int fsync(int fd) { CALL(int, fsync, file_is_below(fd), 1, fd); }
int fdatasync(int fd) { CALL(int, fdatasync, file_is_below(fd), 1, fd); }
int ftruncate(int fd, off_t size) { CALL(int, ftruncate, file_is_below(fd), 0, fd, size); }
int ftruncate64(int fd, off64_t size) { CALL(int, ftruncate64, file_is_below(fd), 0, fd, size); }
int truncate(const char *path, off_t size) { CALL(int, truncate, path_is_below(AT_FDCWD, path), 0, path, size); }
int truncate64(const char *path, off64_t size) { CALL(int, truncate64, path_is_below(AT_FDCWD, path), 0, path, size); }
int rename(const char *from, const char *to) { CALL(int, rename, path_is_below(AT_FDCWD, to), 0, from, to); }
int renameat(int a, const char *from, int b, const char *to) {
    CALL(int, renameat, path_is_below(b, to), 0, a, from, b, to);
}
int renameat2(int a, const char *from, int b, const char *to, unsigned flags) {
    CALL(int, renameat2, path_is_below(b, to), 0, a, from, b, to, flags);
}
int unlink(const char *path) { CALL(int, unlink, path_is_below(AT_FDCWD, path), 0, path); }
int unlinkat(int at, const char *path, int flags) { CALL(int, unlinkat, path_is_below(at, path), 0, at, path, flags); }
int rmdir(const char *path) { CALL(int, rmdir, path_is_below(AT_FDCWD, path), 0, path); }
