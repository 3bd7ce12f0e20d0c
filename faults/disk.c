/* A disk that goes wrong, put before the C library's functions (LD_PRELOAD) for the queue's segments alone.

   FAULTS_DISK names a folder. While it holds a file "fail-writes", writes and flushes of segments fail with EIO; with
   "fail-reads", reads do; with "slow", writes take 2 ms more and flushes 40. How much of a segment is on the device
   is noted in a file of the segment's name there: what the power going off would leave. */

#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static int path_of(int fd, char *path, size_t size) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, size - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    return 1;
}

static const char *segment_of(int fd, char *path, size_t size) {
    if (!getenv("FAULTS_DISK") || !path_of(fd, path, size))
        return NULL;
    const char *end = strrchr(path, '.');
    return end && !strcmp(end, ".seg") ? strrchr(path, '/') + 1 : NULL;
}

static int is_told(const char *what) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", getenv("FAULTS_DISK"), what);
    return !access(path, F_OK);
}

static void note(const char *name, long long size) {
    char path[4096], text[32];
    snprintf(path, sizeof path, "%s/%s", getenv("FAULTS_DISK"), name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd >= 0) {
        int length = snprintf(text, sizeof text, "%lld", size);
        if (write(fd, text, length) < 0)
            abort();
        close(fd);
    }
}

static void note_names(const char *folder) {
    char name[4096];
    DIR *entries = opendir(folder);
    for (struct dirent *one; entries && (one = readdir(entries));)
        if (strstr(one->d_name, ".seg")) {
            snprintf(name, sizeof name, "named-%s", one->d_name);
            note(name, 0);
        }
    if (entries)
        closedir(entries);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define WRITE(name, declared, given)                                                                                   \
    ssize_t name declared {                                                                                            \
        char path[4096];                                                                                               \
        if (segment_of(fd, path, sizeof path)) {                                                                       \
            if (is_told("fail-writes")) {                                                                              \
                errno = EIO;                                                                                           \
                return -1;                                                                                             \
            }                                                                                                          \
            if (is_told("slow"))                                                                                       \
                usleep(2000);                                                                                          \
        }                                                                                                              \
        return REAL(name) given;                                                                                       \
    }

WRITE(pwritev, (int fd, const struct iovec *parts, int count, off_t offset), (fd, parts, count, offset))
WRITE(pwritev64, (int fd, const struct iovec *parts, int count, off64_t offset), (fd, parts, count, offset))
WRITE(pwritev2, (int fd, const struct iovec *parts, int count, off_t offset, int flags), (fd, parts, count, offset, flags))
WRITE(pwritev64v2, (int fd, const struct iovec *parts, int count, off64_t offset, int flags),
      (fd, parts, count, offset, flags))

#define READ(name, offset_type)                                                                                        \
    ssize_t name(int fd, void *data, size_t size, offset_type offset) {                                                \
        char path[4096];                                                                                               \
        if (segment_of(fd, path, sizeof path) && is_told("fail-reads")) {                                              \
            errno = EIO;                                                                                               \
            return -1;                                                                                                 \
        }                                                                                                              \
        return REAL(name)(fd, data, size, offset);                                                                     \
    }

READ(pread, off_t)
READ(pread64, off64_t)

int fdatasync(int fd) {
    char path[4096];
    const char *name = segment_of(fd, path, sizeof path);
    struct stat found;
    if (name && is_told("fail-writes")) {
        errno = EIO;
        return -1;
    }
    if (name && is_told("slow"))
        usleep(40000);
    int result = REAL(fdatasync)(fd);
    if (name && !result && !fstat(fd, &found))
        note(name, found.st_size);
    return result;
}

int fsync(int fd) {
    char path[4096];
    struct stat found;
    int result = REAL(fsync)(fd);
    if (!result && getenv("FAULTS_DISK") && !fstat(fd, &found) && S_ISDIR(found.st_mode) &&
        path_of(fd, path, sizeof path))
        note_names(path);
    return result;
}
