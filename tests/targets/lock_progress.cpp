// Like thd_contention, but the work done so far can be read at any moment, and the contention doesn't come and go.
//
//     lock_progress [--counters FILE] [--threads N] [--seconds S] [--hold TURNS] [--outside TURNS] [--yield-every N]
//
// FILE has a row for each thread, which counts its commands there. All threads take one mutex, held briefly and taken
// often, by two paths: THD::set_query, four times for each statement, and THD::reset_query.
//
// Left to itself, such a program makes 5,000 futex calls a second or a million, for seconds each, depending on what
// else runs. So in every Nth command (4th; 0: never) the holder gives its CPU to another thread, which finds the lock
// taken: some 150,000 calls a second, on one CPU or on two.
#include "target.h"

#include <pthread.h>
#include <sched.h>

#include <atomic>
#include <vector>

static std::atomic<bool> ending{false};
static uint64_t hold_turns, outside_turns, yield_every;

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
    counter_row *commands;
};

extern "C" NAMED void *handle_connection(void *argument)
{
    Session *session = static_cast<Session *>(argument);
    for (uint64_t commands = 1; !ending.load(std::memory_order_relaxed); commands++) {
        dispatch_command(session->thd, yield_every && commands % yield_every == 0);
        count_one(session->commands);
    }
    return nullptr;
}

int main(int argc, char **argv)
{
    const int threads = static_cast<int>(number_option(argc, argv, "--threads", 4));
    hold_turns = static_cast<uint64_t>(number_option(argc, argv, "--hold", 150));
    outside_turns = static_cast<uint64_t>(number_option(argc, argv, "--outside", 740));
    yield_every = static_cast<uint64_t>(number_option(argc, argv, "--yield-every", 4));
    hold_end_signals();
    counter_row *rows = counter_rows(argc, argv, threads);
    THD thd;
    std::vector<Session> sessions(threads);
    for (int number = 0; number < threads; number++) {
        sessions[number].thd = &thd;
        sessions[number].commands = &rows[number];
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
        commands += rows[number].done;
    }
    printf("{\"threads\": %d, \"commands\": %llu}\n", threads, (unsigned long long)commands);
    return 0;
}
