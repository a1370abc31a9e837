/* A disk that fails: preloaded into a program, it counts the calls of the file system
   on paths below a folder, and lets one of them, or all from it on, fail with an error.
   It does so once fail_arm() is called, so what a program imports is not counted. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_int calls;
static int armed, at, on, number;
static const char *below;

void fail_arm(const char *folder, int call, int error, int and_on) {
  below = strdup(folder), at = call, number = error, on = and_on;
  atomic_store(&calls, 0);
  armed = 1;
}

int fail_count(void) { return atomic_load(&calls); }

static int fails(const char *path) {
  if (!armed || !path || strncmp(path, below, strlen(below))) return 0;
  int call = atomic_fetch_add(&calls, 1) + 1;
  if (at <= 0 || (call != at && !(on && call > at))) return 0;
  errno = number;
  return 1;
}

static int fails_in(int folder, const char *path) {
  char name[64], whole[8192];
  if (!armed || !path) return 0;
  if (path[0] == '/') return fails(path);
  if (folder == AT_FDCWD) return 0;
  snprintf(name, sizeof name, "/proc/self/fd/%d", folder);
  ssize_t size = readlink(name, whole, 4000);
  if (size < 0) return 0;
  snprintf(whole + size, 4000, "/%s", path);
  return fails(whole);
}

static int fails_on(int file) {
  char name[64], path[4096];
  if (!armed || file <= 2) return 0;
  snprintf(name, sizeof name, "/proc/self/fd/%d", file);
  ssize_t size = readlink(name, path, sizeof path - 1);
  if (size < 0) return 0;
  path[size] = 0;
  return fails(path);
}

#define CALL(result, name, parameters, arguments, failing)                       \
  result name parameters {                                                       \
    static __typeof__(name) *real;                                               \
    if (!real) real = (__typeof__(real))dlsym(RTLD_NEXT, #name);                 \
    return failing ? -1 : real arguments;                                        \
  }

CALL(int, rename, (const char *a, const char *b), (a, b), fails(b))
CALL(int, renameat, (int c, const char *a, int d, const char *b), (c, a, d, b), fails_in(d, b))
CALL(int, unlink, (const char *a), (a), fails(a))
CALL(int, unlinkat, (int d, const char *a, int f), (d, a, f), fails_in(d, a))
CALL(int, rmdir, (const char *a), (a), fails(a))
CALL(int, mkdir, (const char *a, mode_t m), (a, m), fails(a))
CALL(int, mkdirat, (int d, const char *a, mode_t m), (d, a, m), fails_in(d, a))
CALL(int, stat, (const char *a, struct stat *s), (a, s), fails(a))
CALL(int, stat64, (const char *a, struct stat64 *s), (a, s), fails(a))
CALL(int, lstat, (const char *a, struct stat *s), (a, s), fails(a))
CALL(int, lstat64, (const char *a, struct stat64 *s), (a, s), fails(a))
CALL(int, fstatat, (int d, const char *a, struct stat *s, int f), (d, a, s, f), fails_in(d, a))
CALL(int, fstatat64, (int d, const char *a, struct stat64 *s, int f), (d, a, s, f), fails_in(d, a))
CALL(int, fsync, (int d), (d), fails_on(d))
CALL(int, fdatasync, (int d), (d), fails_on(d))
CALL(int, ftruncate, (int d, off_t n), (d, n), fails_on(d))
CALL(ssize_t, read, (int d, void *b, size_t n), (d, b, n), fails_on(d))
CALL(ssize_t, pread, (int d, void *b, size_t n, off_t o), (d, b, n, o), fails_on(d))
CALL(ssize_t, pread64, (int d, void *b, size_t n, off64_t o), (d, b, n, o), fails_on(d))
CALL(ssize_t, write, (int d, const void *b, size_t n), (d, b, n), fails_on(d))
CALL(ssize_t, pwrite, (int d, const void *b, size_t n, off_t o), (d, b, n, o), fails_on(d))
CALL(ssize_t, pwrite64, (int d, const void *b, size_t n, off64_t o), (d, b, n, o), fails_on(d))
CALL(ssize_t, writev, (int d, const struct iovec *v, int c), (d, v, c), fails_on(d))

#define OPEN(name, parameters, arguments, failing)                               \
  int name parameters {                                                          \
    static __typeof__(name) *real;                                               \
    va_list rest;                                                                \
    mode_t mode = 0;                                                             \
    if (!real) real = (__typeof__(real))dlsym(RTLD_NEXT, #name);                 \
    va_start(rest, flags);                                                       \
    if (flags & (O_CREAT | O_TMPFILE)) mode = va_arg(rest, mode_t);              \
    va_end(rest);                                                                \
    return failing ? -1 : real arguments;                                        \
  }

OPEN(open, (const char *a, int flags, ...), (a, flags, mode), fails(a))
OPEN(open64, (const char *a, int flags, ...), (a, flags, mode), fails(a))
OPEN(openat, (int d, const char *a, int flags, ...), (d, a, flags, mode), fails_in(d, a))
OPEN(openat64, (int d, const char *a, int flags, ...), (d, a, flags, mode), fails_in(d, a))
