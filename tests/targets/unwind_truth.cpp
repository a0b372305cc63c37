// Stacks that the source dictates, to check an unwinder against.
//
//     unwind_truth --list
//     unwind_truth --scenario NAME [--seconds S]
//
// Prints one line of JSON with the expected chains, then `ready`, then burns CPU for S seconds (0: until SIGTERM), then
// prints one line of JSON with the number of burns. Build it together with unwind_plain.cpp and unwind_special.cpp and
// with -rdynamic; the scenario `dlopen` loads unwind_plugin.so from the program's own folder.
#include "unwind_truth.h"

uint64_t burn_turns = 0;

extern "C" NAMED void burn_leaf(uint64_t turns) { spin(turns); }

static void calibrate()
{
    const uint64_t probe = 2000000;
    const int64_t start = thread_cpu_ns();
    burn_leaf(probe);
    const int64_t taken = thread_cpu_ns() - start;
    burn_turns = taken > 0 ? probe * 3000000 / static_cast<uint64_t>(taken) : probe;
}

static void print_chains(const Scenario &scenario)
{
    printf("{\"scenario\": \"%s\", \"may_truncate\": %s, \"chains\": [", scenario.name,
           scenario.may_truncate ? "true" : "false");
    const char *between_chains = "";
    for (const Chain &chain : scenario.chains) {
        printf("%s[", between_chains);
        between_chains = ", ";
        const char *between_names = "";
        for (const std::string &name : chain) {
            printf("%s\"%s\"", between_names, name.c_str());
            between_names = ", ";
        }
        printf("]");
    }
    printf("]}\n");
}

static std::vector<Scenario> all_scenarios()
{
    std::vector<Scenario> all = plain_scenarios();
    for (const Scenario &scenario : special_scenarios())
        all.push_back(scenario);
    return all;
}

int main(int argc, char **argv)
{
    const std::vector<Scenario> scenarios = all_scenarios();
    if (argc == 2 && strcmp(argv[1], "--list") == 0) {
        for (const Scenario &scenario : scenarios)
            puts(scenario.name);
        return 0;
    }
    const char *name = text_option(argc, argv, "--scenario", "");
    const double seconds = number_option(argc, argv, "--seconds", 0);
    for (const Scenario &scenario : scenarios) {
        if (strcmp(scenario.name, name) != 0)
            continue;
        hold_end_signals();
        calibrate();
        print_chains(scenario);
        say_ready();
        long burns = 0;
        const int64_t end = wall_ns() + static_cast<int64_t>(seconds * 1e9);
        for (; !end_was_asked_for() && (seconds <= 0 || wall_ns() < end); burns++)
            scenario.run();
        printf("{\"burns\": %ld}\n", burns);
        return 0;
    }
    fprintf(stderr, "unwind_truth: no scenario '%s': see --list\n", name);
    return 2;
}
