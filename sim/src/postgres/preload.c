/* Preloaded into a private PostgreSQL: clock, timers and chance of a backend come from a slot of a
 * file that the seeded world shares with it. A process without a slot is left alone.
 *
 * A timer is not armed: the world reads when it is due, and sends SIGALRM when virtual time has
 * come that far. A wait that would end by itself, as that of pg_sleep, is ended in the same way. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SLOTS 1024

/* The same layout as in slots.rs. */
struct slot {
    volatile int64_t pid;
    volatile int64_t now;      /* microseconds since 1970 */
    volatile int64_t due;      /* of the next SIGALRM; 0 for none */
    volatile uint64_t chance;  /* state of a generator */
    volatile int64_t wake;     /* when its latest wait that ends by itself is over; 0 for none */
    volatile int64_t asleep;   /* whether it is in that wait */
};

static struct slot *slots;
static struct slot *known;

__attribute__((constructor)) static void attach(void) {
    const char *path = getenv("REDELIVER_SLOTS");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *at = mmap(NULL, SLOTS * sizeof(struct slot), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (at != MAP_FAILED)
        slots = at;
}

static struct slot *mine(void) {
    if (!slots)
        return NULL;
    int64_t pid = getpid();
    if (known && known->pid == pid)
        return known;
    known = NULL;
    for (int i = 0; i < SLOTS && !known; i++)
        if (slots[i].pid == pid)
            known = &slots[i];
    if (known) {
        /* What was armed before is not to go off in the middle of a run. */
        struct itimerval none = {{0, 0}, {0, 0}};
        syscall(SYS_setitimer, ITIMER_REAL, &none, NULL);
    }
    return known;
}

int gettimeofday(struct timeval *restrict to, void *restrict zone) {
    struct slot *slot = mine();
    (void)zone;
    if (!slot)
        return syscall(SYS_gettimeofday, to, NULL);
    to->tv_sec = slot->now / 1000000;
    to->tv_usec = slot->now % 1000000;
    return 0;
}

int clock_gettime(clockid_t clock, struct timespec *to) {
    struct slot *slot = clock == CLOCK_REALTIME ? mine() : NULL;
    if (!slot)
        return syscall(SYS_clock_gettime, clock, to);
    to->tv_sec = slot->now / 1000000;
    to->tv_nsec = slot->now % 1000000 * 1000;
    return 0;
}

int setitimer(__itimer_which_t which, const struct itimerval *restrict to,
              struct itimerval *restrict from) {
    struct slot *slot = which == ITIMER_REAL ? mine() : NULL;
    if (!slot)
        return syscall(SYS_setitimer, which, to, from);
    if (from)
        memset(from, 0, sizeof *from);
    int64_t after = to->it_value.tv_sec * 1000000L + to->it_value.tv_usec;
    slot->due = after ? slot->now + after : 0;
    return 0;
}

/* SIGALRM sets the latch that PostgreSQL waits for: whoever waits looks at the clock again. */
int epoll_wait(int set, struct epoll_event *to, int most, int timeout) {
    struct slot *slot = timeout > 0 ? mine() : NULL;
    if (!slot)
        return syscall(SYS_epoll_pwait, set, to, most, timeout, NULL, 8);
    /* Interrupted, it waits for the rest, up to a whole millisecond: that is the same wait. */
    int64_t wake = slot->now + timeout * 1000L;
    if (slot->wake <= slot->now || wake < slot->wake || wake >= slot->wake + 1000)
        slot->wake = wake;
    slot->asleep = 1;
    int ready = syscall(SYS_epoll_pwait, set, to, most, -1, NULL, 8);
    slot->asleep = 0;
    return ready;
}

static void fill(struct slot *slot, unsigned char *to, size_t count) {
    while (count) {
        uint64_t z = slot->chance += 0x9e3779b97f4a7c15;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
        z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
        z ^= z >> 31;
        size_t part = count < sizeof z ? count : sizeof z;
        memcpy(to, &z, part);
        to += part;
        count -= part;
    }
}

int RAND_bytes(unsigned char *to, int count) {
    static int (*real)(unsigned char *, int);
    struct slot *slot = mine();
    if (slot) {
        fill(slot, to, (size_t)count);
        return 1;
    }
    if (!real)
        real = (int (*)(unsigned char *, int))dlsym(RTLD_NEXT, "RAND_bytes");
    return real ? real(to, count) : getentropy(to, (size_t)count) == 0;
}

ssize_t getrandom(void *to, size_t count, unsigned flags) {
    struct slot *slot = mine();
    if (!slot)
        return syscall(SYS_getrandom, to, count, flags);
    fill(slot, to, count);
    return (ssize_t)count;
}
