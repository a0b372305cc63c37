// Scenarios of unwind_truth in which libc, the kernel or the C++ runtime stands between the frames.
#include "unwind_truth.h"

#include <dlfcn.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

extern "C" {

// --- C++ exceptions: one burn in a destructor while the exception passes, one in the handler.

NAMED void destructor_work()
{
    burn_leaf(burn_turns);
    KEEP_FRAME();
}

struct Guard {
    NAMED ~Guard();
};

NAMED Guard::~Guard()
{
    destructor_work();
    KEEP_FRAME();
}

NAMED void throws() { throw 7; }

NAMED void passes_through()
{
    Guard guard;
    throws();
    KEEP_FRAME();
}

NAMED void catch_work()
{
    burn_leaf(burn_turns);
    KEEP_FRAME();
}

NAMED void catches()
{
    try {
        passes_through();
    } catch (int) {
        catch_work();
    }
    KEEP_FRAME();
}

NAMED void scenario_exceptions()
{
    catches();
    KEEP_FRAME();
}

// --- Signal handlers

static volatile sig_atomic_t handled;

NAMED void signal_work()
{
    burn_leaf(burn_turns);
    KEEP_FRAME();
}

NAMED void on_signal(int)
{
    signal_work();
    handled = 1;
}

static void handle(int signal_number, int flags)
{
    struct sigaction action = {};
    action.sa_handler = on_signal;
    action.sa_flags = flags;
    sigaction(signal_number, &action, nullptr);
}

NAMED void raises()
{
    raise(SIGUSR1);
    KEEP_FRAME();
}

NAMED void scenario_signal_raised()
{
    handle(SIGUSR1, 0);
    raises();
    KEEP_FRAME();
}

// Saves nothing and calls nothing: the signal's frame stands right on its red zone.
NAMED void interrupted_leaf()
{
    while (!handled)
        spin(10);
}

NAMED void interrupted_caller()
{
    handled = 0;
    const itimerval soon = {{0, 0}, {0, 1000}};
    setitimer(ITIMER_REAL, &soon, nullptr);
    interrupted_leaf();
    KEEP_FRAME();
}

NAMED void scenario_signal_timer()
{
    handle(SIGALRM, 0);
    interrupted_caller();
    KEEP_FRAME();
}

NAMED void scenario_signal_altstack()
{
    static void *stack = nullptr;
    if (!stack) {
        const size_t size = 64 * 1024;
        stack = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        const stack_t alternate = {stack, 0, size};
        sigaltstack(&alternate, nullptr);
    }
    handle(SIGALRM, SA_ONSTACK);
    interrupted_caller();
    KEEP_FRAME();
}

// --- libc between two of our frames

static int compared;

NAMED int compare_and_burn(const void *left, const void *right)
{
    if (compared++ == 0)
        burn_leaf(burn_turns);
    return *static_cast<const int *>(left) - *static_cast<const int *>(right);
}

NAMED void sorts()
{
    int numbers[] = {5, 3, 8, 1, 9, 2, 7, 4};
    compared = 0;
    qsort(numbers, 8, sizeof numbers[0], compare_and_burn);
    KEEP_FRAME();
}

NAMED void scenario_qsort()
{
    sorts();
    KEEP_FRAME();
}

// Long enough for a profiler that looks for new threads by itself.
NAMED void *thread_body(void *)
{
    for (int burn = 0; burn < 50; burn++)
        burn_leaf(burn_turns);
    return nullptr;
}

NAMED void scenario_thread()
{
    pthread_t thread;
    if (pthread_create(&thread, nullptr, thread_body, nullptr) == 0)
        pthread_join(thread, nullptr);
}

// --- Code that is loaded while the program runs: opened, called, closed again each time.

NAMED void plugin_callback()
{
    burn_leaf(burn_turns);
    KEEP_FRAME();
}

NAMED void scenario_dlopen()
{
    char path[4096];
    const ssize_t length = readlink("/proc/self/exe", path, sizeof path - 32);
    path[length > 0 ? length : 0] = '\0';
    char *slash = strrchr(path, '/');
    strcpy(slash ? slash + 1 : path, "unwind_plugin.so");
    void *plugin = dlopen(path, RTLD_NOW);
    if (!plugin) {
        fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
    void (*entry)(void (*)()) = reinterpret_cast<void (*)(void (*)())>(dlsym(plugin, "plugin_entry"));
    entry(plugin_callback);
    dlclose(plugin);
}

// --- Assembly without unwind rules, but with a frame pointer

NAMED void asm_callee()
{
    burn_leaf(burn_turns);
    KEEP_FRAME();
}

void asm_without_rules();
__asm__(".text\n"
        ".globl asm_without_rules\n"
        ".type asm_without_rules, @function\n"
        "asm_without_rules:\n"
        "    push %rbp\n"
        "    mov %rsp, %rbp\n"
        "    sub $48, %rsp\n"
        "    call asm_callee\n"
        "    leave\n"
        "    ret\n"
        ".size asm_without_rules, . - asm_without_rules\n");

NAMED void scenario_assembly()
{
    asm_without_rules();
    KEEP_FRAME();
}

} // extern "C"

std::vector<Scenario> special_scenarios()
{
    return {
        {"exceptions",
         {{"burn_leaf", "destructor_work", "Guard::~Guard", "passes_through", "catches", "scenario_exceptions", "main"},
          {"burn_leaf", "catch_work", "catches", "scenario_exceptions", "main"}},
         scenario_exceptions},
        {"signal_raised",
         {{"burn_leaf", "signal_work", "on_signal", "*", "raises", "scenario_signal_raised", "main"}},
         scenario_signal_raised},
        {"signal_timer",
         {{"burn_leaf", "signal_work", "on_signal", "*", "interrupted_leaf", "interrupted_caller",
           "scenario_signal_timer", "main"},
          // The timer has run out before its caller went on.
          {"burn_leaf", "signal_work", "on_signal", "*", "interrupted_caller", "scenario_signal_timer", "main"},
          {"interrupted_leaf", "interrupted_caller", "scenario_signal_timer", "main"}},
         scenario_signal_timer},
        {"signal_altstack",
         {{"burn_leaf", "signal_work", "on_signal", "*", "interrupted_leaf", "interrupted_caller",
           "scenario_signal_altstack", "main"},
          {"burn_leaf", "signal_work", "on_signal", "*", "interrupted_caller", "scenario_signal_altstack", "main"},
          {"interrupted_leaf", "interrupted_caller", "scenario_signal_altstack", "main"}},
         scenario_signal_altstack, true},
        {"qsort", {{"burn_leaf", "compare_and_burn", "*", "sorts", "scenario_qsort", "main"}}, scenario_qsort},
        {"thread", {{"burn_leaf", "thread_body"}}, scenario_thread},
        {"dlopen",
         {{"burn_leaf", "plugin_callback", "plugin_inner", "plugin_entry", "scenario_dlopen", "main"}},
         scenario_dlopen},
        {"assembly",
         {{"burn_leaf", "asm_callee", "asm_without_rules", "scenario_assembly", "main"}},
         scenario_assembly},
    };
}
