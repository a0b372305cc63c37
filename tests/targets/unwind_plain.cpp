// Scenarios of unwind_truth that are all ordinary code: what compilers do with frames.
#include "unwind_truth.h"

#include <alloca.h>

namespace
{

const int RECURSION_DEPTH = 200;

Chain recursion_chain()
{
    Chain chain{"burn_leaf"};
    chain.insert(chain.end(), RECURSION_DEPTH, "recurse");
    chain.insert(chain.end(), {"scenario_recursion", "main"});
    return chain;
}

Chain tail_call_chain()
{
#ifdef __OPTIMIZE__
    return {"burn_leaf", "tail_third", "scenario_tail_calls", "main"};
#else
    return {"burn_leaf", "tail_third", "tail_second", "tail_first", "scenario_tail_calls", "main"};
#endif
}

} // namespace

extern "C" {

NAMED void plain_inner()
{
    burn_leaf(burn_turns);
    KEEP_FRAME();
}

NAMED void plain_outer()
{
    plain_inner();
    KEEP_FRAME();
}

NAMED void scenario_plain()
{
    plain_outer();
    KEEP_FRAME();
}

NAMED void recurse(int depth)
{
    if (depth > 1)
        recurse(depth - 1);
    else
        burn_leaf(burn_turns);
    KEEP_FRAME();
}

NAMED void scenario_recursion()
{
    recurse(RECURSION_DEPTH);
    KEEP_FRAME();
}

// Seven callee-saved values are live across the call: every register that may be saved is.
NAMED uint64_t saves_all(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f, uint64_t g)
{
    burn_leaf(burn_turns);
    KEEP_FRAME();
    return a ^ b ^ c ^ d ^ e ^ f ^ g;
}

NAMED void scenario_saved_registers()
{
    volatile uint64_t result = saves_all(1, 2, 3, 4, 5, 6, 7);
    (void)result;
}

NAMED void alloca_frame(size_t size)
{
    volatile char *room = static_cast<volatile char *>(alloca(size));
    room[0] = 1;
    burn_leaf(burn_turns);
    room[size - 1] = 1;
}

NAMED void scenario_alloca()
{
    static size_t size = 100;
    size = 100 + (size * 7 + 13) % 2500;
    alloca_frame(size);
    KEEP_FRAME();
}

NAMED void vla_frame(size_t size)
{
    volatile char room[size];
    room[0] = 1;
    burn_leaf(burn_turns);
    room[size - 1] = room[0];
}

NAMED void large_frame(size_t size)
{
    volatile char room[6000];
    room[0] = 1;
    vla_frame(size);
    room[sizeof room - 1] = room[0];
}

NAMED void scenario_large_frames()
{
    static size_t size = 100;
    size = 100 + (size * 11 + 17) % 2500;
    large_frame(size);
    KEEP_FRAME();
}

NAMED void tail_third(uint64_t turns)
{
    burn_leaf(turns);
    KEEP_FRAME();
}

NAMED void tail_second(uint64_t turns) { tail_third(turns + 1); }

NAMED void tail_first(uint64_t turns) { tail_second(turns + 1); }

NAMED void scenario_tail_calls()
{
    tail_first(burn_turns);
    KEEP_FRAME();
}

// An over-aligned local beside one of unknown size: GCC keeps the caller's frame in a register of its own (the DRAP),
// and the CFA is a DWARF expression.
NAMED void over_aligned(size_t size)
{
    alignas(64) volatile char aligned[64];
    volatile char *room = static_cast<volatile char *>(alloca(size));
    aligned[0] = room[0] = 1;
    burn_leaf(burn_turns);
    aligned[63] = room[size - 1] = aligned[0];
}

__attribute__((force_align_arg_pointer)) NAMED void realigned(size_t size)
{
    over_aligned(size);
    KEEP_FRAME();
}

NAMED void scenario_realigned()
{
    static size_t size = 100;
    size = 100 + (size * 7 + 13) % 500;
    realigned(size);
    KEEP_FRAME();
}

// Calls out of the program through its PLT, as often as can be: samples hit the stubs and libc's functions.
NAMED void plt_hot_loop(uint64_t turns)
{
    volatile long sink = 0;
    for (uint64_t turn = 0; turn < turns; turn++)
        sink = sink + labs(static_cast<long>(turn)) + strtol("7", nullptr, 10);
}

NAMED void scenario_plt()
{
    plt_hot_loop(burn_turns / 50);
    KEEP_FRAME();
}

} // extern "C"

std::vector<Scenario> plain_scenarios()
{
    return {
        {"plain", {{"burn_leaf", "plain_inner", "plain_outer", "scenario_plain", "main"}}, scenario_plain},
        {"recursion", {recursion_chain()}, scenario_recursion},
        {"saved_registers", {{"burn_leaf", "saves_all", "scenario_saved_registers", "main"}}, scenario_saved_registers},
        {"alloca", {{"burn_leaf", "alloca_frame", "scenario_alloca", "main"}}, scenario_alloca},
        {"large_frames",
         {{"burn_leaf", "vla_frame", "large_frame", "scenario_large_frames", "main"}},
         scenario_large_frames},
        {"tail_calls", {tail_call_chain()}, scenario_tail_calls},
        {"realigned", {{"burn_leaf", "over_aligned", "realigned", "scenario_realigned", "main"}}, scenario_realigned},
        {"plt",
         {{"plt_hot_loop", "scenario_plt", "main"}, {"*", "plt_hot_loop", "scenario_plt", "main"}},
         scenario_plt},
    };
}
