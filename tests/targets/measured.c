/* Runs a command and says how much CPU time it, its children and this program took: the kernel's own account.
 *
 *     measured COMMAND [ARGUMENT...]
 *
 * Prints one line of JSON after the command's own output; ends with the command's exit status.
 */
#include "target.h"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static long long cpu_time_ns(int whose)
{
    struct rusage usage;
    getrusage(whose, &usage);
    return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000000LL +
           (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000LL;
}

int main(int argc, char **argv)
{
    int status = 0;
    if (argc < 2)
        return 2;
    const pid_t child = fork();
    if (child == 0) {
        execvp(argv[1], argv + 1);
        _exit(127);
    }
    waitpid(child, &status, 0);
    printf("{\"cpu_ns\": %lld}\n", cpu_time_ns(RUSAGE_SELF) + cpu_time_ns(RUSAGE_CHILDREN));
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
