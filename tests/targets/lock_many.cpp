// Many threads on many mutexes of one class, each on the heap in an object of its own.
//
//     lock_many [--threads N] [--locks N] [--hold-ms MS] [--seconds S] [--log FILE] [--hold sleep|burn]
//
// 1000 threads and 100 locks by default, held for 20 ms. All are taken in Connection::use. Options, the log and the
// line of JSON: lock_truth.h, with one category, `use`; a record's `lock` is the number of the connection. The JSON
// has the addresses of the mutexes in that order, `addresses`.
#include "lock_truth.h"

#include <memory>
#include <vector>

static thread_local uint32_t random_state;
static int64_t hold_ns;

class Connection {
  public:
    explicit Connection(int number) : number(number) { pthread_mutex_init(&LOCK_connection, nullptr); }
    void use();
    const void *address() const { return &LOCK_connection; }

  private:
    const int number;
    char buffer[200] = {};
    pthread_mutex_t LOCK_connection;
};

extern "C" NAMED void send_query()
{
    if (!truth_ending())
        hold_for(about(hold_ns, &random_state));
    KEEP_FRAME();
}

NAMED void Connection::use()
{
    TRUTH_ACQUIRE(0, number, pthread_mutex_trylock(&LOCK_connection), pthread_mutex_lock(&LOCK_connection));
    buffer[0]++;
    send_query();
    pthread_mutex_unlock(&LOCK_connection);
    KEEP_FRAME();
}

static std::vector<std::unique_ptr<Connection>> connections;

extern "C" NAMED void *use_connections(void *argument)
{
    random_state = static_cast<uint32_t>(reinterpret_cast<uintptr_t>(argument)) * 7919;
    while (!truth_ending()) {
        connections[next_random(&random_state) % connections.size()]->use();
        nap(about(hold_ns / 10, &random_state));
    }
    return nullptr;
}

int main(int argc, char **argv)
{
    const int threads = static_cast<int>(number_option(argc, argv, "--threads", 1000));
    const int locks = static_cast<int>(number_option(argc, argv, "--locks", 100));
    hold_ns = static_cast<int64_t>(number_option(argc, argv, "--hold-ms", 20) * 1e6);

    const char *const categories[] = {"use", nullptr};
    truth_open(argc, argv, categories);
    for (int number = 0; number < locks; number++)
        connections.push_back(std::make_unique<Connection>(number));
    std::vector<pthread_t> started(threads);
    for (int index = 0; index < threads; index++)
        truth_start(&started[index], use_connections, reinterpret_cast<void *>(static_cast<uintptr_t>(index + 1)));
    truth_wait_for_end(argc, argv);
    for (pthread_t thread : started)
        truth_join(thread);
    printf("{\"threads\": %d, \"locks\": %d, \"addresses\": [", threads, locks);
    for (int number = 0; number < locks; number++)
        printf("%s%llu", number ? ", " : "", (unsigned long long)(uintptr_t)connections[number]->address());
    printf("], ");
    truth_close();
    return 0;
}
