/* The clock that a program sees, stepped: two seconds after its start it jumps two hours ahead, and half a second later back. The
 * machine's clock stays as it is. */
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static time_t began;

static time_t off(void) {
	struct timespec t;
	syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &t);
	if (began == 0) began = t.tv_sec;
	double run = (double)(t.tv_sec - began) + (double)t.tv_nsec / 1e9;
	return run > 2.0 && run < 2.8 ? 7200 : 0;
}

__attribute__((constructor)) static void start(void) { off(); }

int clock_gettime(clockid_t id, struct timespec *t) {
	int r = (int)syscall(SYS_clock_gettime, id, t);
	if (r == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) t->tv_sec += off();
	return r;
}

int gettimeofday(struct timeval *restrict v, void *restrict zone) {
	(void)zone;
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	v->tv_sec = t.tv_sec;
	v->tv_usec = t.tv_nsec / 1000;
	return 0;
}

time_t time(time_t *out) {
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	if (out) *out = t.tv_sec;
	return t.tv_sec;
}
