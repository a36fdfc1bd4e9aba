/* Writes down what a process does to the files below one directory, in order: writes, truncations, flushes, names.
 *
 * Loaded with LD_PRELOAD; SOMA_POWERCUT_DIR names the directory, SOMA_POWERCUT_LOG the file. Every call goes on to the C
 * library. A record is a head and its bytes; `powercut.py` reads them. A flush has two: what was written before it began
 * is safe once it has ended. Memory-mapped writes are not seen: SQLite maps only its shared index, which it rebuilds.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#define FILES 4096

enum kind { OPENED = 1, WROTE, TRUNCATED, FLUSH_BEGAN, FLUSH_ENDED, UNLINKED, RENAMED };

struct head {
    uint32_t kind, file;
    uint64_t offset, size;
};

static pthread_mutex_t door = PTHREAD_MUTEX_INITIALIZER;
static int log_fd = -1;
static const char *below;
static size_t below_size;
static uint32_t file_of[FILES]; /* of a descriptor; 0 is none of ours */
static uint32_t files;

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("SOMA_POWERCUT_LOG");
    below = getenv("SOMA_POWERCUT_DIR");
    if (path == NULL || below == NULL)
        return;
    below_size = strlen(below);
    log_fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static int ours(const char *path)
{
    return log_fd >= 0 && path != NULL && strncmp(path, below, below_size) == 0;
}

static void put(const void *bytes, size_t size)
{
    const char *at = bytes;
    while (size > 0) {
        ssize_t done = syscall(SYS_write, log_fd, at, size);
        if (done <= 0)
            abort(); /* a log with a hole proves nothing */
        at += done;
        size -= (size_t)done;
    }
}

static void note(enum kind kind, uint32_t file, uint64_t offset, const void *bytes, size_t size)
{
    struct head head = {kind, file, offset, size};
    put(&head, sizeof head);
    put(bytes, size);
}

static uint32_t known(int fd)
{
    return fd >= 0 && fd < FILES ? file_of[fd] : 0;
}

static int opened(int fd, const char *path, int flags)
{
    if (fd < 0 || fd >= FILES)
        return fd;
    pthread_mutex_lock(&door);
    file_of[fd] = 0;
    if (ours(path)) {
        file_of[fd] = ++files;
        note(OPENED, files, (uint64_t)(flags & O_TRUNC ? 1 : 0), path, strlen(path));
    }
    pthread_mutex_unlock(&door);
    return fd;
}

#define MODE(flags)                                                                                                    \
    mode_t mode = 0;                                                                                                   \
    if ((flags) & (O_CREAT | O_TMPFILE)) {                                                                             \
        va_list rest;                                                                                                  \
        va_start(rest, flags);                                                                                         \
        mode = va_arg(rest, mode_t);                                                                                   \
        va_end(rest);                                                                                                  \
    }

int open(const char *path, int flags, ...)
{
    MODE(flags)
    return opened(NEXT(open)(path, flags, mode), path, flags);
}

int open64(const char *path, int flags, ...)
{
    MODE(flags)
    return opened(NEXT(open64)(path, flags, mode), path, flags);
}

int openat(int at, const char *path, int flags, ...)
{
    MODE(flags)
    return opened(NEXT(openat)(at, path, flags, mode), path, flags);
}

int openat64(int at, const char *path, int flags, ...)
{
    MODE(flags)
    return opened(NEXT(openat64)(at, path, flags, mode), path, flags);
}

int close(int fd)
{
    pthread_mutex_lock(&door);
    if (fd >= 0 && fd < FILES)
        file_of[fd] = 0;
    pthread_mutex_unlock(&door);
    return NEXT(close)(fd);
}

/* The lock is held over the call and its record, so that the log has the order in which the kernel was asked. */
#define WRITE(call, where)                                                                                             \
    if (!known(fd))                                                                                                    \
        return call;                                                                                                   \
    pthread_mutex_lock(&door);                                                                                         \
    off_t begin = (where);                                                                                             \
    ssize_t done = call;                                                                                               \
    if (done > 0)                                                                                                      \
        note(WROTE, file_of[fd], (uint64_t)begin, bytes, (size_t)done);                                                \
    pthread_mutex_unlock(&door);                                                                                       \
    return done;

ssize_t write(int fd, const void *bytes, size_t size)
{
    struct stat what;
    int adds = known(fd) && (fcntl(fd, F_GETFL) & O_APPEND) && fstat(fd, &what) == 0;
    WRITE(NEXT(write)(fd, bytes, size), adds ? what.st_size : lseek(fd, 0, SEEK_CUR))
}

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t offset)
{
    WRITE(NEXT(pwrite)(fd, bytes, size, offset), offset)
}

ssize_t pwrite64(int fd, const void *bytes, size_t size, off64_t offset)
{
    WRITE(NEXT(pwrite64)(fd, bytes, size, offset), (off_t)offset)
}

#define TRUNCATE(call)                                                                                                 \
    if (!known(fd))                                                                                                    \
        return call;                                                                                                   \
    pthread_mutex_lock(&door);                                                                                         \
    int done = call;                                                                                                   \
    if (done == 0)                                                                                                     \
        note(TRUNCATED, file_of[fd], (uint64_t)size, NULL, 0);                                                         \
    pthread_mutex_unlock(&door);                                                                                       \
    return done;

int ftruncate(int fd, off_t size)
{
    TRUNCATE(NEXT(ftruncate)(fd, size))
}

int ftruncate64(int fd, off64_t size)
{
    TRUNCATE(NEXT(ftruncate64)(fd, size))
}

#define FLUSH(call)                                                                                                    \
    uint32_t file = known(fd);                                                                                         \
    if (!file)                                                                                                         \
        return call;                                                                                                   \
    pthread_mutex_lock(&door);                                                                                         \
    note(FLUSH_BEGAN, file, 0, NULL, 0);                                                                               \
    pthread_mutex_unlock(&door);                                                                                       \
    int done = call;                                                                                                   \
    pthread_mutex_lock(&door);                                                                                         \
    if (done == 0)                                                                                                     \
        note(FLUSH_ENDED, file, 0, NULL, 0);                                                                           \
    pthread_mutex_unlock(&door);                                                                                       \
    return done;

int fsync(int fd)
{
    FLUSH(NEXT(fsync)(fd))
}

int fdatasync(int fd)
{
    FLUSH(NEXT(fdatasync)(fd))
}

int unlink(const char *path)
{
    if (!ours(path))
        return NEXT(unlink)(path);
    pthread_mutex_lock(&door);
    int done = NEXT(unlink)(path);
    if (done == 0)
        note(UNLINKED, 0, 0, path, strlen(path));
    pthread_mutex_unlock(&door);
    return done;
}

int rename(const char *from, const char *to)
{
    if (!ours(from))
        return NEXT(rename)(from, to);
    pthread_mutex_lock(&door);
    int done = NEXT(rename)(from, to);
    if (done == 0) {
        size_t size = strlen(from) + 1 + strlen(to);
        char *both = malloc(size + 1);
        if (both == NULL)
            abort();
        strcpy(both, from);
        both[strlen(from)] = '\n';
        strcpy(both + strlen(from) + 1, to);
        note(RENAMED, 0, 0, both, size);
        free(both);
    }
    pthread_mutex_unlock(&door);
    return done;
}
