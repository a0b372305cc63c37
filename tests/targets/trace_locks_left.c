/* Leaves lock functions in unusual ways, a known number of times: by cancelling threads that wait for a condition, and
 * with signal handlers that take a lock while the thread waits for another; a child that was forked takes locks too.
 *
 *     trace_locks_left [TURNS]
 *
 * Prints "ready", begins at SIGUSR1, ends by itself, and prints one line of JSON: how often each lock was taken by a call.
 */
#include "target.h"

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

pthread_mutex_t LOCK_cancelled = PTHREAD_MUTEX_INITIALIZER;
pthread_mutex_t LOCK_interrupted = PTHREAD_MUTEX_INITIALIZER;
pthread_mutex_t LOCK_in_handler = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t never = PTHREAD_COND_INITIALIZER;
static int is_waiting;
static long handled;

static void rest(void)
{
    const struct timespec length = {0, 2000000};
    nanosleep(&length, NULL);
}

static void give_back_and_take_again(void *unused)
{
    (void)unused;
    pthread_mutex_unlock(&LOCK_cancelled);
    pthread_mutex_lock(&LOCK_cancelled);
    pthread_mutex_unlock(&LOCK_cancelled);
}

static void *wait_for_ever(void *unused)
{
    pthread_mutex_lock(&LOCK_cancelled);
    pthread_cleanup_push(give_back_and_take_again, NULL);
    __atomic_store_n(&is_waiting, 1, __ATOMIC_RELEASE);
    for (;;)
        pthread_cond_wait(&never, &LOCK_cancelled);
    pthread_cleanup_pop(1);
    return unused;
}

static void cancel_a_wait(void)
{
    pthread_t thread;
    __atomic_store_n(&is_waiting, 0, __ATOMIC_RELEASE);
    pthread_create(&thread, NULL, wait_for_ever, NULL);
    while (!__atomic_load_n(&is_waiting, __ATOMIC_ACQUIRE))
        rest();
    pthread_cancel(thread);
    pthread_join(thread, NULL);
}

static void on_signal(int number)
{
    (void)number;
    pthread_mutex_lock(&LOCK_in_handler);
    __atomic_fetch_add(&handled, 1, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&LOCK_in_handler);
}

static void *take_interrupted(void *unused)
{
    pthread_mutex_lock(&LOCK_interrupted);
    pthread_mutex_unlock(&LOCK_interrupted);
    return unused;
}

static void interrupt_a_wait(void)
{
    pthread_t thread;
    pthread_mutex_lock(&LOCK_interrupted);
    pthread_create(&thread, NULL, take_interrupted, NULL);
    rest();
    const long before = __atomic_load_n(&handled, __ATOMIC_ACQUIRE);
    pthread_kill(thread, SIGUSR2);
    while (__atomic_load_n(&handled, __ATOMIC_ACQUIRE) == before)
        rest();
    pthread_mutex_unlock(&LOCK_interrupted);
    pthread_join(thread, NULL);
}

static int fork_a_child(void)
{
    const pid_t child = fork();
    if (!child) {
        for (int turn = 0; turn < 100; turn++) {
            pthread_mutex_lock(&LOCK_in_handler);
            pthread_mutex_unlock(&LOCK_in_handler);
        }
        _exit(0);
    }
    int status = 1;
    waitpid(child, &status, 0);
    return status;
}

int main(int count, char **words)
{
    const long turns = count > 1 ? atol(words[1]) : 10;
    const struct sigaction action = {.sa_handler = on_signal};
    sigset_t start;
    int number, failures = 0;
    sigaction(SIGUSR2, &action, NULL);
    sigemptyset(&start);
    sigaddset(&start, SIGUSR1);
    sigprocmask(SIG_BLOCK, &start, NULL);
    puts("ready");
    fflush(stdout);
    sigwait(&start, &number);
    for (long turn = 0; turn < turns; turn++) {
        cancel_a_wait();
        interrupt_a_wait();
        failures += fork_a_child() != 0;
    }
    printf("{\"LOCK_cancelled\": %ld, \"LOCK_interrupted\": %ld, \"LOCK_in_handler\": %ld, \"failures\": %d}\n", 2 * turns,
           2 * turns, handled, failures);
    return 0;
}
