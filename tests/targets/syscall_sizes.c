/* Makes system calls and counts them itself: sizes asked for and returned by powers of two, errors, and the signed and
 * narrow arguments that are easy to get wrong.
 *
 * Begins on SIGUSR1, then prints what it did; ends on SIGTERM, or right away with --end 1. Receives --rounds times in
 * each of two functions. With --hot N it calls getppid(2) N times in each of two threads instead.
 */
#define _GNU_SOURCE
#include "target.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BUCKETS 20
#define BYTES_MOST 65536
#define SMALL 64
#define SLEEPS 200
#define SLEEP_NS 300000
#define FAILED 20

static char buffer[BYTES_MOST];
static long asked[BUCKETS], returned[BUCKETS], calls, asked_bytes, returned_bytes, would_block, bad_descriptor;
static uint64_t state = 88172645463325252u;

static uint64_t next_random(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

/* 0 for 0, k + 1 for 2^k to 2^(k+1) - 1. */
static int bucket_of(uint64_t value) { return value ? 64 - __builtin_clzll(value) : 0; }

static NAMED void receive(int from, size_t size, int flags)
{
    ssize_t got = recvfrom(from, buffer, size, flags, NULL, NULL);
    calls++;
    asked[bucket_of(size)]++;
    asked_bytes += (long)size;
    if (got >= 0) {
        returned[bucket_of((uint64_t)got)]++;
        returned_bytes += got;
    } else if (errno == EAGAIN) {
        would_block++;
    } else if (errno == EBADF) {
        bad_descriptor++;
    }
    KEEP_FRAME();
}

static NAMED void receive_small(int to, int from)
{
    send(to, buffer, next_random() % 4000, 0);
    receive(from, SMALL, 0);
    KEEP_FRAME();
}

static NAMED void receive_large(int to, int from)
{
    send(to, buffer, next_random() % 4000, 0);
    receive(from, 1 + next_random() % BYTES_MOST, 0);
    KEEP_FRAME();
}

/* A connection to ourselves: returns the accepted end, and the connected one in `*other`. */
static int tcp_connection(int *other, int *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 1))
        exit(1);
    getsockname(listener, (struct sockaddr *)&address, &length);
    *other = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(*other, (struct sockaddr *)&address, sizeof address))
        exit(1);
    *port = ntohs(address.sin_port);
    return accept(listener, NULL, NULL);
}

static void *call_often(void *times)
{
    for (long turn = *(long *)times; turn > 0; turn--)
        syscall(SYS_getppid);
    return NULL;
}

/* Prints how many calls that were, and how long they took. */
static void run_hot(long times)
{
    pthread_t threads[2];
    int64_t start = wall_ns();
    for (int index = 0; index < 2; index++)
        pthread_create(&threads[index], NULL, call_often, &times);
    for (int index = 0; index < 2; index++)
        pthread_join(threads[index], NULL);
    printf("{\"calls\": %ld, \"ns\": %lld}\n", 2 * times, (long long)(wall_ns() - start));
}

static void print_counts(const char *name, const long *counts)
{
    printf("\"%s\": [", name);
    for (int bucket = 0; bucket < BUCKETS; bucket++)
        printf("%s%ld", bucket ? ", " : "", counts[bucket]);
    printf("], ");
}

int main(int argc, char **argv)
{
    long rounds = (long)number_option(argc, argv, "--rounds", 500);
    int pair[2], port, other, tcp = tcp_connection(&other, &port), signal_number;
    sigset_t start;
    sigemptyset(&start);
    sigaddset(&start, SIGUSR1);
    sigprocmask(SIG_BLOCK, &start, NULL);
    hold_end_signals();
    if (socketpair(AF_UNIX, SOCK_DGRAM, 0, pair))
        return 1;
    say_ready();
    sigwait(&start, &signal_number);
    long hot = (long)number_option(argc, argv, "--hot", 0);
    if (hot > 0) {
        run_hot(hot);
        return 0;
    }
    for (long round = 0; round < rounds; round++) {
        receive_small(pair[0], pair[1]);
        receive_large(pair[0], pair[1]);
    }
    for (int turn = 0; turn < FAILED; turn++) {
        receive(pair[1], SMALL, MSG_DONTWAIT);
        receive(-1, SMALL, 0);
    }
    send(other, buffer, 1000, 0);
    receive(tcp, 1000, MSG_WAITALL);
    int file = openat(AT_FDCWD, "/dev/zero", O_RDONLY);
    for (int turn = 0; turn < FAILED; turn++) {
        lseek(file, -5, SEEK_END);
        close(-1);
    }
    struct timespec pause = {.tv_nsec = SLEEP_NS};
    for (int turn = 0; turn < SLEEPS; turn++)
        clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
    putchar('{');
    print_counts("asked", asked);
    print_counts("returned", returned);
    printf("\"calls\": %ld, \"asked_bytes\": %ld, \"returned_bytes\": %ld, \"would_block\": %ld, "
           "\"bad_descriptor\": %ld, \"port\": %d, \"tcp\": %d, \"sleeps\": %d, \"rounds\": %ld}\n",
           calls, asked_bytes, returned_bytes, would_block, bad_descriptor, port, tcp, SLEEPS, rounds);
    fflush(stdout);
    if (number_option(argc, argv, "--end", 0) == 0)
        wait_for_end(60);
    return 0;
}
