/* Preloaded into a process: its clock of the day, and no other, is off by as many seconds as
   the file named by FTAP_TEST_CLOCK says, 8 bytes in the machine's order, read at each call.
   Waits until a time of that clock end when it says so, as the kernel's own do: a jump forwards
   ends them at once, one backwards makes those already begun longer by as much. They are done in
   slices of real time, because the clock may jump meanwhile. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL
#define SLICE (SECOND / 50)

static const volatile int64_t *offset;

__attribute__((constructor)) static void open_clock(void) {
    const char *path = getenv("FTAP_TEST_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *mapped = mmap(0, sizeof *offset, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (mapped != MAP_FAILED) offset = mapped;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = (int)syscall(SYS_clock_gettime, clock, now);
    if (result == 0 && offset && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += *offset;
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec exact;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &exact)) return -1;
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *seconds) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (seconds) *seconds = exact.tv_sec;
    return exact.tv_sec;
}

int timespec_get(struct timespec *now, int base) {
    return base == TIME_UTC && clock_gettime(CLOCK_REALTIME, now) == 0 ? base : 0;
}

/* The real time until which to wait next; 0 if `until` has come. */
static int next_slice(const struct timespec *until, struct timespec *slice) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    int64_t left = (int64_t)(until->tv_sec - now.tv_sec) * SECOND + until->tv_nsec - now.tv_nsec;
    if (left <= 0) return 0;
    syscall(SYS_clock_gettime, CLOCK_REALTIME, slice);
    int64_t nanos = slice->tv_nsec + (left < SLICE ? left : SLICE);
    slice->tv_sec += nanos / SECOND;
    slice->tv_nsec = nanos % SECOND;
    return 1;
}

static void *real(const char *name, const char *version) {
    void *found = dlvsym(RTLD_NEXT, name, version);
    return found ? found : dlsym(RTLD_NEXT, name);
}

int pthread_cond_timedwait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict until) {
    static int (*wait)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    struct timespec slice;
    if (!wait) wait = real("pthread_cond_timedwait", "GLIBC_2.3.2");
    while (next_slice(until, &slice)) {
        int result = wait(cond, mutex, &slice);
        if (result != ETIMEDOUT) return result;
    }
    return ETIMEDOUT;
}

/* librdkafka waits by this. In glibc the types are those of pthreads by other names. */
int cnd_timedwait(cnd_t *restrict cond, mtx_t *restrict mutex,
                  const struct timespec *restrict until) {
    int result = pthread_cond_timedwait((pthread_cond_t *)cond, (pthread_mutex_t *)mutex, until);
    return result == 0 ? thrd_success : result == ETIMEDOUT ? thrd_timedout : thrd_error;
}

int sem_timedwait(sem_t *restrict sem, const struct timespec *restrict until) {
    static int (*wait)(sem_t *, const struct timespec *);
    struct timespec slice;
    if (!wait) wait = real("sem_timedwait", "GLIBC_2.34");
    if (sem_trywait(sem) == 0) return 0;
    while (next_slice(until, &slice))
        if (wait(sem, &slice) == 0) return 0;
        else if (errno != ETIMEDOUT) return -1;
    errno = ETIMEDOUT;
    return -1;
}

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *until,
                    struct timespec *left) {
    static int (*sleep_until)(clockid_t, int, const struct timespec *, struct timespec *);
    struct timespec slice;
    if (!sleep_until) sleep_until = real("clock_nanosleep", "GLIBC_2.17");
    if (clock != CLOCK_REALTIME || !(flags & TIMER_ABSTIME))
        return sleep_until(clock, flags, until, left);
    while (next_slice(until, &slice)) {
        int result = sleep_until(clock, flags, &slice, left);
        if (result) return result;
    }
    return 0;
}
