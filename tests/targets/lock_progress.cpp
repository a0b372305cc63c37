// Like thd_contention, but the work done so far can be read at any moment, and the contention doesn't come and go.
//
//     lock_progress --counters FILE [--threads N] [--seconds S] [--hold TURNS] [--outside TURNS] [--yield-every N]
//
// FILE, mapped into memory, gets one row of 64 bytes for each thread, whose first 8 are the number of its commands so
// far (u64). A thread writes to a cache line of its own, so that nobody waits for it. All threads take one mutex, held
// briefly and taken often, by two paths: THD::set_query, four times for each statement, and THD::reset_query.
//
// Left to itself, such a program makes 5,000 futex calls a second or a million, for seconds each, depending on what
// else runs. So in every Nth command (4th; 0: never) the holder gives its CPU to another thread, which finds the lock
// taken: some 150,000 calls a second, on one CPU or on two.
#include "target.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <vector>

static std::atomic<bool> ending{false};
static uint64_t hold_turns, outside_turns, yield_every;

struct alignas(64) Row {
    std::atomic<uint64_t> commands;
};

class THD {
  public:
    THD() { pthread_mutex_init(&LOCK_thd_query, nullptr); }
    void set_query(const char *text, size_t length);
    void reset_query(bool yields);

  private:
    pthread_mutex_t LOCK_thd_query;
    char query[256] = {};
    size_t query_length = 0;
};

NAMED void THD::set_query(const char *text, size_t length)
{
    pthread_mutex_lock(&LOCK_thd_query);
    query_length = length;
    memcpy(query, text, length);
    spin(hold_turns);
    pthread_mutex_unlock(&LOCK_thd_query);
    KEEP_FRAME();
}

NAMED void THD::reset_query(bool yields)
{
    pthread_mutex_lock(&LOCK_thd_query);
    query_length = 0;
    spin(hold_turns);
    if (yields)
        sched_yield();
    pthread_mutex_unlock(&LOCK_thd_query);
    KEEP_FRAME();
}

extern "C" NAMED void execute_statement(THD *thd)
{
    static const char text[] = "SELECT c FROM sbtest1 WHERE id BETWEEN ? AND ?";
    for (int statement = 0; statement < 4; statement++)
        thd->set_query(text, sizeof text);
    spin(outside_turns);
}

extern "C" NAMED void dispatch_command(THD *thd, bool yields)
{
    execute_statement(thd);
    thd->reset_query(yields);
    KEEP_FRAME();
}

struct Session {
    pthread_t thread;
    THD *thd;
    Row *row;
};

extern "C" NAMED void *handle_connection(void *argument)
{
    Session *session = static_cast<Session *>(argument);
    for (uint64_t commands = 1; !ending.load(std::memory_order_relaxed); commands++) {
        dispatch_command(session->thd, yield_every && commands % yield_every == 0);
        session->row->commands.store(commands, std::memory_order_relaxed);
    }
    return nullptr;
}

static Row *mapped_rows(const char *path, size_t count)
{
    const int descriptor = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (descriptor < 0 || ftruncate(descriptor, static_cast<off_t>(count * sizeof(Row))) != 0) {
        perror(path);
        exit(1);
    }
    void *rows = mmap(nullptr, count * sizeof(Row), PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    if (rows == MAP_FAILED) {
        perror("mmap");
        exit(1);
    }
    close(descriptor);
    return static_cast<Row *>(rows);
}

int main(int argc, char **argv)
{
    const int threads = static_cast<int>(number_option(argc, argv, "--threads", 4));
    const char *path = text_option(argc, argv, "--counters", nullptr);
    hold_turns = static_cast<uint64_t>(number_option(argc, argv, "--hold", 150));
    outside_turns = static_cast<uint64_t>(number_option(argc, argv, "--outside", 740));
    yield_every = static_cast<uint64_t>(number_option(argc, argv, "--yield-every", 4));
    if (!path) {
        fputs("lock_progress: --counters FILE is missing\n", stderr);
        return 2;
    }
    hold_end_signals();
    Row *rows = mapped_rows(path, threads);
    THD thd;
    std::vector<Session> sessions(threads);
    for (int number = 0; number < threads; number++) {
        sessions[number].thd = &thd;
        sessions[number].row = &rows[number];
        if (pthread_create(&sessions[number].thread, nullptr, handle_connection, &sessions[number]) != 0) {
            perror("pthread_create");
            return 1;
        }
    }
    say_ready();
    wait_for_end(number_option(argc, argv, "--seconds", 0));
    ending = true;
    uint64_t commands = 0;
    for (int number = 0; number < threads; number++) {
        pthread_join(sessions[number].thread, nullptr);
        commands += rows[number].commands.load();
    }
    printf("{\"threads\": %d, \"commands\": %llu}\n", threads, (unsigned long long)commands);
    return 0;
}
