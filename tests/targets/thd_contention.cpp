// A server in small: sessions run prepared statements, and all of them take one connection's LOCK_thd_query.
//
//     thd_contention [--threads N] [--seconds S] [--hold TURNS]
//
// The lock is held briefly and taken often, so that the contention burns CPU on the way to the futex. Two paths take
// it: THD::set_query, called from Prepared_statement::execute, and THD::reset_query, called from dispatch_command.
// Ends after S seconds (0: at SIGTERM) and prints one line of JSON with what was done.
#include "target.h"

#include <pthread.h>

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

static std::atomic<bool> ending{false};

struct Counts {
    uint64_t commands = 0;
    uint64_t set_queries = 0;
    uint64_t rows = 0;
};

class THD {
  public:
    THD() { pthread_mutex_init(&LOCK_thd_query, nullptr); }
    ~THD();
    void set_query(const char *text, size_t length);
    void reset_query();

    static uint64_t hold_turns;

  private:
    pthread_mutex_t LOCK_thd_query;
    char query[256] = {};
    size_t query_length = 0;
};

uint64_t THD::hold_turns = 150;

NAMED THD::~THD()
{
    spin(4000);
    pthread_mutex_destroy(&LOCK_thd_query);
}

NAMED void THD::set_query(const char *text, size_t length)
{
    pthread_mutex_lock(&LOCK_thd_query);
    query_length = length < sizeof query ? length : sizeof query;
    memcpy(query, text, query_length);
    spin(hold_turns);
    pthread_mutex_unlock(&LOCK_thd_query);
    KEEP_FRAME();
}

NAMED void THD::reset_query()
{
    pthread_mutex_lock(&LOCK_thd_query);
    query_length = 0;
    spin(hold_turns);
    pthread_mutex_unlock(&LOCK_thd_query);
    KEEP_FRAME();
}

class JOIN {
  public:
    uint64_t exec();

  private:
    uint64_t rows = 0;
};

NAMED uint64_t JOIN::exec()
{
    for (int row = 0; row < 8; row++) {
        spin(60);
        rows++;
    }
    return rows;
}

class Prepared_statement {
  public:
    explicit Prepared_statement(THD *owner) : thd(owner) {}
    void execute(Counts *counts);

  private:
    THD *thd;
};

NAMED void Prepared_statement::execute(Counts *counts)
{
    static const char text[] = "SELECT c FROM sbtest1 WHERE id BETWEEN ? AND ?";
    for (int statement = 0; statement < 4; statement++) {
        thd->set_query(text, sizeof text);
        counts->set_queries++;
    }
    JOIN join;
    counts->rows += join.exec();
}

extern "C" NAMED void dispatch_command(THD *thd, Counts *counts)
{
    Prepared_statement statement(thd);
    statement.execute(counts);
    thd->reset_query();
    counts->commands++;
}

extern "C" NAMED void close_connection()
{
    THD connection;
    connection.set_query("QUIT", 4);
}

extern "C" NAMED void do_command(THD *thd, Counts *counts)
{
    dispatch_command(thd, counts);
    if (counts->commands % 16 == 0)
        close_connection();
}

struct Session {
    pthread_t thread;
    THD *thd;
    Counts counts;
};

extern "C" NAMED void *handle_connection(void *argument)
{
    Session *session = static_cast<Session *>(argument);
    while (!ending.load(std::memory_order_relaxed))
        do_command(session->thd, &session->counts);
    return nullptr;
}

int main(int argc, char **argv)
{
    const int threads = static_cast<int>(number_option(argc, argv, "--threads", 4));
    const double seconds = number_option(argc, argv, "--seconds", 0);
    THD::hold_turns = static_cast<uint64_t>(number_option(argc, argv, "--hold", 150));

    hold_end_signals();
    THD thd;
    std::vector<Session> sessions(threads);
    const int64_t start = wall_ns();
    for (Session &session : sessions) {
        session.thd = &thd;
        if (pthread_create(&session.thread, nullptr, handle_connection, &session) != 0) {
            perror("pthread_create");
            return 1;
        }
    }
    say_ready();
    wait_for_end(seconds);
    ending = true;

    Counts total;
    for (Session &session : sessions) {
        pthread_join(session.thread, nullptr);
        total.commands += session.counts.commands;
        total.set_queries += session.counts.set_queries;
        total.rows += session.counts.rows;
    }
    printf("{\"threads\": %d, \"seconds\": %.3f, \"commands\": %llu, \"set_queries\": %llu, \"rows\": %llu}\n", threads,
           (double)(wall_ns() - start) / 1e9, (unsigned long long)total.commands, (unsigned long long)total.set_queries,
           (unsigned long long)total.rows);
    return 0;
}
