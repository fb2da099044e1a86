/* Writes as slow as those of a card. Preloaded into any exporter, below its Python.
 *
 * Reads and writes of regular files on the file system of $THROTTLE_DIR take as long as $THROTTLE_READ and $THROTTLE_WRITE
 * (bytes a second) say, one after the other, as one card does it. Build: cc -shared -fPIC -O2 -o throttle.so throttle.c
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static double busy_until;
static int ready; /* 0 not asked yet, 1 throttles, -1 has nothing to throttle */
static dev_t device;
static double read_rate, write_rate;

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void prepare(void)
{
    const char *folder = getenv("THROTTLE_DIR"), *reads = getenv("THROTTLE_READ"), *writes = getenv("THROTTLE_WRITE");
    struct stat facts;
    ready = -1;
    if (folder && reads && writes && stat(folder, &facts) == 0) {
        device = facts.st_dev;
        read_rate = atof(reads);
        write_rate = atof(writes);
        ready = 1;
    }
}

static void take(int fd, ssize_t count, double begun, int is_write)
{
    struct stat facts;
    double until;
    if (!ready)
        prepare();
    if (ready < 0 || count <= 0 || fstat(fd, &facts) || !S_ISREG(facts.st_mode) || facts.st_dev != device)
        return;
    pthread_mutex_lock(&lock);
    until = begun;
    if (busy_until > until)
        until = busy_until;
    until += (double)count / (is_write ? write_rate : read_rate);
    busy_until = until;
    pthread_mutex_unlock(&lock);
    struct timespec wake = {(time_t)until, (long)((until - (double)(time_t)until) * 1e9)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &wake, NULL))
        ;
}

static ssize_t sum(const struct iovec *pieces, int count)
{
    ssize_t total = 0;
    while (count--)
        total += (ssize_t)pieces[count].iov_len;
    return total;
}

#define THROTTLED(name, parameters, arguments, is_write, before)      \
    ssize_t name parameters                                           \
    {                                                                 \
        static ssize_t(*real) parameters;                             \
        if (!real)                                                    \
            real = (ssize_t(*) parameters)dlsym(RTLD_NEXT, #name);    \
        if (is_write)                                                 \
            take(fd, before, now(), 1);                                     \
        double begun = now();                                         \
        ssize_t done = real arguments;                                \
        if (!is_write)                                                \
            take(fd, done, begun, 0);                                      \
        return done;                                                  \
    }

THROTTLED(read, (int fd, void *data, size_t count), (fd, data, count), 0, 0)
THROTTLED(pread, (int fd, void *data, size_t count, off_t at), (fd, data, count, at), 0, 0)
THROTTLED(pread64, (int fd, void *data, size_t count, off64_t at), (fd, data, count, at), 0, 0)
THROTTLED(write, (int fd, const void *data, size_t count), (fd, data, count), 1, (ssize_t)count)
THROTTLED(pwrite, (int fd, const void *data, size_t count, off_t at), (fd, data, count, at), 1, (ssize_t)count)
THROTTLED(pwrite64, (int fd, const void *data, size_t count, off64_t at), (fd, data, count, at), 1, (ssize_t)count)
THROTTLED(writev, (int fd, const struct iovec *data, int count), (fd, data, count), 1, sum(data, count))
THROTTLED(pwritev, (int fd, const struct iovec *data, int count, off_t at), (fd, data, count, at), 1, sum(data, count))
THROTTLED(pwritev64, (int fd, const struct iovec *data, int count, off64_t at), (fd, data, count, at), 1, sum(data, count))
THROTTLED(pwritev2, (int fd, const struct iovec *data, int count, off_t at, int flags), (fd, data, count, at, flags), 1, sum(data, count))
THROTTLED(pwritev64v2, (int fd, const struct iovec *data, int count, off64_t at, int flags), (fd, data, count, at, flags), 1, sum(data, count))
