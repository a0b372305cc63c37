/* A process that sleeps while its child, its child's thread and its grandchild work.
 *
 *     family
 *
 * Prints one line of JSON with the pids of all three processes, then `ready`. Ended with its process group.
 */
#include "target.h"

#include <pthread.h>
#include <unistd.h>

static NAMED void child_work(void)
{
    for (;;)
        spin(100000);
}

static NAMED void *child_thread_work(void *unused)
{
    (void)unused;
    for (;;)
        spin(100000);
}

static NAMED void grandchild_work(void)
{
    for (;;)
        spin(100000);
}

static void run_child(int report)
{
    pthread_t id;
    const pid_t grandchild = fork();
    if (grandchild == 0)
        grandchild_work();
    pthread_create(&id, NULL, child_thread_work, NULL);
    if (write(report, &grandchild, sizeof grandchild) != sizeof grandchild)
        _exit(1);
    child_work();
}

int main(void)
{
    int report[2];
    pid_t grandchild;
    if (pipe(report) != 0)
        return 1;
    const pid_t child = fork();
    if (child == 0)
        run_child(report[1]);
    if (read(report[0], &grandchild, sizeof grandchild) != sizeof grandchild)
        return 1;
    printf("{\"parent\": %d, \"child\": %d, \"grandchild\": %d}\n", (int)getpid(), (int)child, (int)grandchild);
    say_ready();
    for (;;)
        pause();
}
