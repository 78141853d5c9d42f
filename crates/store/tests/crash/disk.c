/*
 * A disk that can be told to fail, and that remembers in which order it was written and synced.
 *
 * Preloaded into a process, it stands between libc's file calls and the kernel for the files of one folder. It
 * writes what happens to them to a journal outside of that folder, and fails what the rule of the moment says.
 * Syncs are noted and not done: only the journal knows what a loss of power would leave.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OPEN = 1, CREATE, WRITE, TRUNCATE, SYNC, SYNC_FAILED, SYNC_FOLDER, RENAME, UNLINK, SAID };
enum { UNKNOWN, FILE_OF_IT, FOLDER_ITSELF };

struct record {
    uint32_t op;
    uint32_t length; /* of what follows: bytes written, or names */
    uint64_t file;   /* its inode */
    uint64_t offset; /* or its new size, or the bytes said */
};

#define MAX_FD 4096
static struct { char kind; uint64_t file; } fds[MAX_FD];
static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;
static const char *folder;
static size_t folder_length;
static int journal = -1, rule = -1;

static void die(const char *why) {
    syscall(SYS_write, 2, why, strlen(why));
    abort();
}

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("LASTFRAME_DISK_JOURNAL"), *rules = getenv("LASTFRAME_DISK_RULE");
    folder = getenv("LASTFRAME_DISK_FOLDER");
    if (!folder || !path || !rules) die("the disk lacks a folder, a journal or a rule\n");
    folder_length = strlen(folder);
    journal = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    rule = (int)syscall(SYS_openat, AT_FDCWD, rules, O_RDONLY | O_CREAT | O_CLOEXEC, 0600);
    if (journal < 0 || rule < 0) die("the disk cannot open its journal or its rule\n");
}

static void note(uint32_t op, uint64_t file, uint64_t offset, const void *bytes, size_t length) {
    struct record record = { op, (uint32_t)length, file, offset };
    struct iovec parts[2] = { { &record, sizeof record }, { (void *)bytes, length } };
    if (syscall(SYS_writev, journal, parts, 2) != (long)(sizeof record + length)) die("the journal is short\n");
}

/* The rule is a letter and an errno: `w 28` fails writes, `s 5` syncs, `a 30` all that changes anything. */
static int fails(char what) {
    char text[16] = { 0 };
    if (syscall(SYS_pread64, rule, text, sizeof text - 1, 0L) < 3) return 0;
    if (text[0] != what && text[0] != 'a') return 0;
    errno = atoi(text + 2);
    return errno;
}

/* The name within the folder; nothing for what lies elsewhere. The folder itself is "". */
static const char *name_of(const char *path) {
    if (strncmp(path, folder, folder_length) != 0) return NULL;
    path += folder_length;
    if (*path == '/') path++;
    else if (*path) return NULL;
    return strchr(path, '/') ? NULL : path;
}

static int is_tracked(int fd, char kind) {
    return fd >= 0 && fd < MAX_FD && fds[fd].kind == kind;
}

static int do_open(int at, const char *path, int flags, mode_t mode) {
    const char *name = name_of(path);
    if (!name) return (int)syscall(SYS_openat, at, path, flags, mode);
    pthread_mutex_lock(&one_at_a_time);
    struct stat stat;
    int is_new = fstatat(AT_FDCWD, path, &stat, 0) != 0, changes = (flags & O_ACCMODE) != O_RDONLY;
    int fd = -1;
    if (!(changes && fails('o')) && !(is_new && (flags & O_CREAT) && fails('w')))
        fd = (int)syscall(SYS_openat, at, path, flags, mode);
    if (fd >= MAX_FD || (fd >= 0 && fstat(fd, &stat) != 0)) die("the disk has too many files\n");
    if (fd >= 0 && !*name) {
        fds[fd].kind = FOLDER_ITSELF;
    } else if (fd >= 0) {
        fds[fd].kind = FILE_OF_IT;
        fds[fd].file = stat.st_ino;
        note(is_new ? CREATE : OPEN, stat.st_ino, 0, name, strlen(name));
        if (flags & O_TRUNC) note(TRUNCATE, stat.st_ino, 0, NULL, 0);
    }
    int error = errno;
    pthread_mutex_unlock(&one_at_a_time);
    errno = error;
    return fd;
}

#define OPENS(name, at, parameters)                                    \
    int name parameters {                                              \
        mode_t mode = 0;                                               \
        if (flags & (O_CREAT | __O_TMPFILE)) {                         \
            va_list more;                                              \
            va_start(more, flags);                                     \
            mode = va_arg(more, mode_t);                               \
            va_end(more);                                              \
        }                                                              \
        return do_open(at, path, flags, mode);                         \
    }
OPENS(open, AT_FDCWD, (const char *path, int flags, ...))
OPENS(open64, AT_FDCWD, (const char *path, int flags, ...))
OPENS(openat, at, (int at, const char *path, int flags, ...))
OPENS(openat64, at, (int at, const char *path, int flags, ...))
int creat(const char *path, mode_t mode) { return do_open(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return creat(path, mode); }

int close(int fd) {
    if (fd >= 0 && fd < MAX_FD) fds[fd].kind = UNKNOWN;
    return (int)syscall(SYS_close, fd);
}

/* A disk that is full takes a part of what it is given before it takes nothing. */
static ssize_t put(int fd, const void *bytes, size_t length, off_t offset) {
    if (fails('w')) {
        if (errno != ENOSPC || length <= 512) return -1;
        length /= 2;
    }
    ssize_t written = syscall(SYS_pwrite64, fd, bytes, length, offset);
    if (written > 0) note(WRITE, fds[fd].file, (uint64_t)offset, bytes, (size_t)written);
    return written;
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off_t offset) {
    if (!is_tracked(fd, FILE_OF_IT)) return syscall(SYS_pwrite64, fd, bytes, length, offset);
    pthread_mutex_lock(&one_at_a_time);
    ssize_t written = put(fd, bytes, length, offset);
    int error = errno;
    pthread_mutex_unlock(&one_at_a_time);
    errno = error;
    return written;
}
ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset) { return pwrite64(fd, bytes, length, offset); }

ssize_t write(int fd, const void *bytes, size_t length) {
    if (fd != 1 && !is_tracked(fd, FILE_OF_IT)) return syscall(SYS_write, fd, bytes, length);
    pthread_mutex_lock(&one_at_a_time);
    ssize_t written;
    if (fd == 1) {
        written = syscall(SYS_write, fd, bytes, length);
        if (written > 0) note(SAID, 0, (uint64_t)written, NULL, 0);
    } else {
        struct stat stat;
        int appends = (fcntl(fd, F_GETFL) & O_APPEND) != 0;
        if (appends && fstat(fd, &stat) != 0) die("the disk lost a file\n");
        off_t offset = appends ? stat.st_size : lseek(fd, 0, SEEK_CUR);
        written = put(fd, bytes, length, offset);
        if (written > 0) lseek(fd, offset + written, SEEK_SET);
    }
    int error = errno;
    pthread_mutex_unlock(&one_at_a_time);
    errno = error;
    return written;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    if (fd != 1 && !is_tracked(fd, FILE_OF_IT)) return syscall(SYS_writev, fd, parts, count);
    for (int i = 0; i < count; i++) /* A short write is the caller's to go on with. */
        if (parts[i].iov_len > 0) return write(fd, parts[i].iov_base, parts[i].iov_len);
    return 0;
}

static int resize(int fd, off_t size, int only_grow) {
    if (!is_tracked(fd, FILE_OF_IT)) return (int)syscall(SYS_ftruncate, fd, size);
    pthread_mutex_lock(&one_at_a_time);
    struct stat stat;
    int done = fstat(fd, &stat);
    if (done == 0 && !(only_grow && stat.st_size >= size)) {
        done = fails('w') ? -1 : (int)syscall(SYS_ftruncate, fd, size);
        if (done == 0) note(TRUNCATE, fds[fd].file, (uint64_t)size, NULL, 0);
    }
    int error = errno;
    pthread_mutex_unlock(&one_at_a_time);
    errno = error;
    return done;
}
int ftruncate(int fd, off_t size) { return resize(fd, size, 0); }
int ftruncate64(int fd, off_t size) { return resize(fd, size, 0); }
int fallocate(int fd, int mode, off_t offset, off_t length) {
    if (!is_tracked(fd, FILE_OF_IT)) return (int)syscall(SYS_fallocate, fd, mode, offset, length);
    if (mode != 0) {
        errno = EOPNOTSUPP;
        return -1;
    }
    return resize(fd, offset + length, 1);
}
int fallocate64(int fd, int mode, off_t offset, off_t length) { return fallocate(fd, mode, offset, length); }
int posix_fallocate(int fd, off_t offset, off_t length) { return fallocate(fd, 0, offset, length) == 0 ? 0 : errno; }
int posix_fallocate64(int fd, off_t offset, off_t length) { return posix_fallocate(fd, offset, length); }

static int sync_it(int fd) {
    if (!is_tracked(fd, FILE_OF_IT) && !is_tracked(fd, FOLDER_ITSELF)) return (int)syscall(SYS_fsync, fd);
    pthread_mutex_lock(&one_at_a_time);
    int failed = fails('s');
    if (is_tracked(fd, FILE_OF_IT)) note(failed ? SYNC_FAILED : SYNC, fds[fd].file, 0, NULL, 0);
    else if (!failed) note(SYNC_FOLDER, 0, 0, NULL, 0);
    pthread_mutex_unlock(&one_at_a_time);
    errno = failed;
    return failed ? -1 : 0;
}
int fsync(int fd) { return sync_it(fd); }
int fdatasync(int fd) { return sync_it(fd); }

static int renames(int from_at, const char *from, int to_at, const char *to) {
    const char *old = name_of(from), *new = name_of(to);
    if (!old != !new) die("the disk cannot move files into or out of the folder\n");
    if (!old) return (int)syscall(SYS_renameat2, from_at, from, to_at, to, 0);
    pthread_mutex_lock(&one_at_a_time);
    int done = fails('w') ? -1 : (int)syscall(SYS_renameat2, from_at, from, to_at, to, 0);
    if (done == 0) {
        char names[512];
        int length = snprintf(names, sizeof names, "%s/%s", old, new);
        note(RENAME, 0, 0, names, (size_t)length);
    }
    int error = errno;
    pthread_mutex_unlock(&one_at_a_time);
    errno = error;
    return done;
}
int rename(const char *from, const char *to) { return renames(AT_FDCWD, from, AT_FDCWD, to); }
int renameat(int from_at, const char *from, int to_at, const char *to) { return renames(from_at, from, to_at, to); }

static int removes(int at, const char *path, int flags) {
    const char *name = name_of(path);
    if (!name) return (int)syscall(SYS_unlinkat, at, path, flags);
    pthread_mutex_lock(&one_at_a_time);
    /* A full disk lets go of files; one that takes no writes at all does not. */
    int done = fails('o') ? -1 : (int)syscall(SYS_unlinkat, at, path, flags);
    if (done == 0) note(UNLINK, 0, 0, name, strlen(name));
    int error = errno;
    pthread_mutex_unlock(&one_at_a_time);
    errno = error;
    return done;
}
int unlink(const char *path) { return removes(AT_FDCWD, path, 0); }
int unlinkat(int at, const char *path, int flags) { return removes(at, path, flags); }
