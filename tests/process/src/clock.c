/* A wall clock that a test can step, for a process that this library is loaded into (LD_PRELOAD): the
 * file named by IRONCAST_TEST_CLOCK has the seconds by which it is off. All other clocks are as they
 * are. Nothing here needs memory or a lock: allocators ask for the time too. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static long off_s(void) {
    char text[32] = {0};
    const char *path = getenv("IRONCAST_TEST_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return 0;
    ssize_t length = read(file, text, sizeof text - 1);
    close(file);
    return length > 0 ? strtol(text, NULL, 10) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    int failed = (int)syscall(SYS_clock_gettime, clock, time);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) time->tv_sec += off_s();
    return failed;
}
