/* Processes and threads that send signals to one another, in one order, and write down each of them.
 *
 *     signal_senders COUNT
 *
 * Prints `ready` and waits for SIGUSR1; then COUNT signals are sent, the last ones being those that kill the receivers.
 * Ends with a line of JSON: {"signals": [[sender pid, tid, call, signal, target pid, target tid, errno], ...]}, in their
 * order; the target's tid is 0 where it is a process. Of receivers, USR2 is ignored and all else is blocked.
 * As root, one of the senders gives its rights up first: it may signal nobody.
 */
#define _GNU_SOURCE
#include "target.h"

#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define ENTRIES 4096
#define RECEIVERS 2
#define SENDERS 3 /* processes, each with two threads */

struct entry {
    int sender_pid, sender_tid, signal, target_pid, target_tid, error;
    const char *call; /* a constant, at the same address in all processes */
};

static struct shared {
    pthread_mutex_t mutex;
    int sent, wanted;
    int descriptors[RECEIVERS]; /* pidfds */
    pid_t receivers[RECEIVERS], receiver_threads[RECEIVERS], ended;
    struct entry entries[ENTRIES];
} *shared;

static const int SIGNALS[] = {SIGUSR1, SIGUSR2, 0, SIGTERM, 40, SIGHUP, 50, SIGWINCH, 64};
static const char *const CALLS[] = {"kill", "tgkill", "rt_sigqueueinfo", "tkill", "rt_tgsigqueueinfo", "pidfd_send_signal"};

static long send_by(const char *call, pid_t pid, pid_t tid, int signal)
{
    const int descriptor = pid == shared->receivers[0] ? shared->descriptors[0] : shared->descriptors[1];
    siginfo_t info = {.si_signo = signal, .si_code = SI_QUEUE};
    if (strcmp(call, "kill") == 0)
        return syscall(SYS_kill, pid, signal);
    if (strcmp(call, "tgkill") == 0)
        return syscall(SYS_tgkill, pid, tid, signal);
    if (strcmp(call, "tkill") == 0)
        return syscall(SYS_tkill, tid, signal);
    if (strcmp(call, "rt_sigqueueinfo") == 0)
        return syscall(SYS_rt_sigqueueinfo, pid, signal, &info);
    if (strcmp(call, "rt_tgsigqueueinfo") == 0)
        return syscall(SYS_rt_tgsigqueueinfo, pid, tid, signal, &info);
    return syscall(SYS_pidfd_send_signal, descriptor, signal, NULL, 0);
}

static void log_and_send(const char *call, pid_t pid, pid_t tid, int signal)
{
    const int is_to_thread = strcmp(call, "tgkill") == 0 || strcmp(call, "tkill") == 0 || strcmp(call, "rt_tgsigqueueinfo") == 0;
    struct entry *entry = &shared->entries[shared->sent++];
    *entry = (struct entry){getpid(), gettid(), signal, pid, is_to_thread ? tid : 0, 0, call};
    if (send_by(call, pid, tid, signal) != 0)
        entry->error = errno;
}

/* One signal after the other, as long as there are any left to send. */
static void *send_all(void *unused)
{
    (void)unused;
    for (;;) {
        pthread_mutex_lock(&shared->mutex);
        const int turn = shared->sent;
        if (turn >= shared->wanted) {
            pthread_mutex_unlock(&shared->mutex);
            return NULL;
        }
        const int receiver = turn % RECEIVERS;
        if (turn % 11 == 0) /* nobody has this number any more */
            log_and_send("kill", shared->ended, 0, SIGTERM);
        else
            log_and_send(CALLS[turn / 7 % 6], shared->receivers[receiver],
                         turn % 3 ? shared->receiver_threads[receiver] : shared->receivers[receiver],
                         SIGNALS[turn % 9]);
        pthread_mutex_unlock(&shared->mutex);
        usleep(50); /* the others' turn */
    }
}

static void *sleep_on(void *receiver)
{
    shared->receiver_threads[(intptr_t)receiver] = gettid();
    for (;;)
        pause();
    return NULL;
}

static void receive(intptr_t receiver)
{
    pthread_t id;
    sigset_t all;
    signal(SIGUSR2, SIG_IGN);
    sigfillset(&all);
    sigdelset(&all, SIGUSR2);
    sigprocmask(SIG_BLOCK, &all, NULL);
    pthread_create(&id, NULL, sleep_on, (void *)receiver);
    for (;;)
        pause();
}

static pid_t forked(void (*work)(intptr_t), intptr_t number)
{
    const pid_t pid = fork();
    if (pid != 0)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    work(number);
    _exit(0);
}

static void send_from(intptr_t number)
{
    pthread_t id;
    if (number == 0 && getuid() == 0)
        syscall(SYS_setresuid, 65534, 65534, 65534);
    pthread_create(&id, NULL, send_all, NULL);
    send_all(NULL);
    pthread_join(id, NULL);
    usleep(300000); /* so long a tracer has to look at what a descriptor of ours means */
}

static void end_at_once(intptr_t unused) { (void)unused; }

static void print_log(void)
{
    printf("{\"signals\": [");
    for (int index = 0; index < shared->sent; index++) {
        const struct entry *entry = &shared->entries[index];
        printf("%s[%d, %d, \"%s\", %d, %d, %d, %d]", index ? ", " : "", entry->sender_pid, entry->sender_tid, entry->call,
               entry->signal, entry->target_pid, entry->target_tid, entry->error);
    }
    printf("]}\n");
}

int main(int argc, char **argv)
{
    const int count = argc > 1 ? atoi(argv[1]) : 0;
    pthread_mutexattr_t attributes;
    sigset_t begin;
    if (count <= RECEIVERS || count > ENTRIES)
        return 2;
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutex_init(&shared->mutex, &attributes);
    shared->wanted = count - RECEIVERS;
    for (intptr_t receiver = 0; receiver < RECEIVERS; receiver++)
        shared->receivers[receiver] = forked(receive, receiver);
    for (int receiver = 0; receiver < RECEIVERS; receiver++) {
        shared->descriptors[receiver] = (int)syscall(SYS_pidfd_open, shared->receivers[receiver], 0);
        while (!*(volatile pid_t *)&shared->receiver_threads[receiver])
            usleep(1000);
    }
    sigemptyset(&begin);
    sigaddset(&begin, SIGUSR1);
    sigprocmask(SIG_BLOCK, &begin, NULL);
    say_ready();
    sigwaitinfo(&begin, NULL);

    const pid_t ended = forked(end_at_once, 0);
    waitpid(ended, NULL, 0);
    shared->ended = ended;
    pid_t senders[SENDERS];
    for (intptr_t sender = 0; sender < SENDERS; sender++)
        senders[sender] = forked(send_from, sender);
    for (int sender = 0; sender < SENDERS; sender++)
        waitpid(senders[sender], NULL, 0);
    for (int receiver = 0; receiver < RECEIVERS; receiver++) {
        log_and_send("kill", shared->receivers[receiver], 0, SIGKILL);
        waitpid(shared->receivers[receiver], NULL, 0);
    }
    print_log();
    return 0;
}
