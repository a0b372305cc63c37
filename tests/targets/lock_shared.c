/* Processes that contend for a lock in a file that all of them have mapped.
 *
 *     lock_shared --file PATH [--kind mutex|semaphore] [--threads N] [--seconds S] [--log FILE] [--hold sleep|burn]
 *
 * The file is created, and removed at the end. The parent and N - 1 forked children (3) take the lock in
 * take_in_parent and take_in_child, which are the categories; a record's `tid` is its process, as each has one thread
 * at work (the parent's is not the main thread, which waits for the end). `offset` in the JSON is the lock's in the
 * file; `parent` and `children` are process ids. The rest: lock_truth.h.
 */
#include "lock_truth.h"

#include <fcntl.h>
#include <semaphore.h>
#include <stddef.h>
#include <sys/wait.h>

#define MOST_CHILDREN 64

enum { PARENT, CHILD };

struct mapped {
    char header[4096 + 64];
    pthread_mutex_t mutex;
    char padding[64];
    sem_t semaphore;
};

static struct mapped *mapped;
static int takes_semaphore;
static uint32_t random_state;

static struct mapped *map_file(const char *path)
{
    const int file = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (file < 0 || ftruncate(file, sizeof *mapped) != 0) {
        perror(path);
        exit(1);
    }
    void *memory = mmap(NULL, sizeof *mapped, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (memory == MAP_FAILED) {
        perror("mmap");
        exit(1);
    }
    return memory;
}

static void make_locks(void)
{
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutex_init(&mapped->mutex, &attributes);
    sem_init(&mapped->semaphore, 1, 1);
}

static inline __attribute__((always_inline)) void take(int category)
{
    if (takes_semaphore)
        TRUTH_ACQUIRE(category, 0, sem_trywait(&mapped->semaphore), sem_wait(&mapped->semaphore));
    else
        TRUTH_ACQUIRE(category, 0, pthread_mutex_trylock(&mapped->mutex), pthread_mutex_lock(&mapped->mutex));
}

static NAMED void hold_mapped(void)
{
    hold_for(about(1000000, &random_state));
    KEEP_FRAME();
}

static void release(void)
{
    if (takes_semaphore)
        sem_post(&mapped->semaphore);
    else
        pthread_mutex_unlock(&mapped->mutex);
}

static NAMED void take_in_parent(void)
{
    take(PARENT);
    hold_mapped();
    release();
    KEEP_FRAME();
}

static NAMED void take_in_child(void)
{
    take(CHILD);
    hold_mapped();
    release();
    KEEP_FRAME();
}

static NAMED void *work_in_parent(void *unused)
{
    (void)unused;
    while (!truth_ending()) {
        take_in_parent();
        nap(about(200000, &random_state));
    }
    return NULL;
}

static NAMED void work_in_child(void)
{
    while (!truth_ending()) {
        take_in_child();
        nap(about(200000, &random_state));
    }
}

int main(int argc, char **argv)
{
    static const char *const categories[] = {"parent", "child", NULL};
    const char *path = text_option(argc, argv, "--file", NULL);
    const int children = (int)number_option(argc, argv, "--threads", 4) - 1;
    if (!path || children < 0 || children > MOST_CHILDREN) {
        fputs("usage: lock_shared --file PATH [--threads 1..65]\n", stderr);
        return 2;
    }
    takes_semaphore = strcmp(text_option(argc, argv, "--kind", "mutex"), "semaphore") == 0;
    truth_open(argc, argv, categories);
    mapped = map_file(path);
    make_locks();

    pid_t started[MOST_CHILDREN];
    for (int child = 0; child < children; child++) {
        random_state = (uint32_t)(child + 1) * 7919;
        started[child] = fork();
        if (started[child] == 0) {
            work_in_child();
            _exit(0);
        }
    }
    pthread_t worker;
    truth_start(&worker, work_in_parent, NULL);
    truth_wait_for_end(argc, argv);
    truth_join(worker);
    for (int child = 0; child < children; child++)
        waitpid(started[child], NULL, 0);
    unlink(path);
    printf("{\"offset\": %zu, \"parent\": %d, \"children\": [",
           takes_semaphore ? offsetof(struct mapped, semaphore) : offsetof(struct mapped, mutex), (int)getpid());
    for (int child = 0; child < children; child++)
        printf("%s%d", child ? ", " : "", (int)started[child]);
    printf("], ");
    truth_close();
    return 0;
}
