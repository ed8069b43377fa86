/* Lets one system call on a path below FAULT_ROOT fail, once. FAULT_PLAN is a file of four numbers that all processes
   share: which kind of call, the how-manieth (negative: and all that follow), the error number, and how many of that
   kind there were. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

enum { OPEN = 1, WRITE, FSYNC, CLOSE, RENAME, UNLINK, MKDIR, FLOCK, TRUNCATE };

static int *plan;
static const char *root;

__attribute__((constructor)) static void begin(void) {
    const char *name = getenv("FAULT_PLAN");
    root = getenv("FAULT_ROOT");
    int file = name && root ? (int)syscall(SYS_openat, AT_FDCWD, name, O_RDWR) : -1;
    if (file < 0) return;
    void *at = mmap(NULL, 16, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (at != MAP_FAILED) plan = at;
    syscall(SYS_close, file);
}

static int is_due(int kind, const char *path) {
    if (!plan || plan[0] != kind || strncmp(path, root, strlen(root))) return 0;
    int now = __sync_add_and_fetch(plan + 3, 1);
    if (plan[1] < 0 ? now < -plan[1] : now != plan[1]) return 0;
    errno = plan[2];
    return 1;
}

static int is_due_at(int kind, int file) {
    if (!plan || plan[0] != kind) return 0;
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return is_due(kind, path);
}

#define REAL(name) __typeof__(&name) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define MODE va_list more; va_start(more, flags); mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0; va_end(more)

int open(const char *path, int flags, ...) { MODE; REAL(open); return is_due(OPEN, path) ? -1 : real(path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE; REAL(open64); return is_due(OPEN, path) ? -1 : real(path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { MODE; REAL(openat); return is_due(OPEN, path) ? -1 : real(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE; REAL(openat64); return is_due(OPEN, path) ? -1 : real(at, path, flags, mode); }
ssize_t write(int file, const void *data, size_t size) { REAL(write); return is_due_at(WRITE, file) ? -1 : real(file, data, size); }
ssize_t pwrite(int file, const void *data, size_t size, off_t at) { REAL(pwrite); return is_due_at(WRITE, file) ? -1 : real(file, data, size, at); }
ssize_t pwrite64(int file, const void *data, size_t size, off64_t at) { REAL(pwrite64); return is_due_at(WRITE, file) ? -1 : real(file, data, size, at); }
int fsync(int file) { REAL(fsync); return is_due_at(FSYNC, file) ? -1 : real(file); }
int fdatasync(int file) { REAL(fdatasync); return is_due_at(FSYNC, file) ? -1 : real(file); }
int ftruncate(int file, off_t size) { REAL(ftruncate); return is_due_at(TRUNCATE, file) ? -1 : real(file, size); }
int ftruncate64(int file, off64_t size) { REAL(ftruncate64); return is_due_at(TRUNCATE, file) ? -1 : real(file, size); }
int rename(const char *from, const char *to) { REAL(rename); return is_due(RENAME, to) ? -1 : real(from, to); }
int unlink(const char *path) { REAL(unlink); return is_due(UNLINK, path) ? -1 : real(path); }
int mkdir(const char *path, mode_t mode) { REAL(mkdir); return is_due(MKDIR, path) ? -1 : real(path, mode); }
int flock(int file, int how) { REAL(flock); return is_due_at(FLOCK, file) ? -1 : real(file, how); }

int close(int file) {  /* it is closed all the same, as by the kernel */
    REAL(close);
    int due = is_due_at(CLOSE, file), number = errno, result = real(file);
    if (due) errno = number;
    return due ? -1 : result;
}
