// Burns CPU in functions that are inlined into one another, in namespaces, through a template and a lambda.
//
// `// marker: NAME` stands in the lines that the tests look for.
#include "target.h"

#include <cstdint>

namespace shop {
namespace prices {

inline __attribute__((always_inline)) void burn_a_little(std::uint64_t &state)
{
    for (int turn = 0; turn < 1000; turn++)
        __asm__ volatile("imul $3, %0, %0" : "+r"(state)); // marker: burn
}

template <class Sum> inline __attribute__((always_inline)) void add_up(Sum &sum)
{
    burn_a_little(sum.total); // marker: call of burn
}

} // namespace prices

struct Basket {
    std::uint64_t total = 1;

    __attribute__((always_inline)) inline void count()
    {
        prices::add_up(*this); // marker: call of add_up
    }
};

NAMED void check_out(Basket &basket)
{
    auto twice = [&basket]() __attribute__((always_inline)) {
        basket.count(); // marker: call of count
    };
    twice(); // marker: call of lambda
    KEEP_FRAME();
}

} // namespace shop

static NAMED void serve(shop::Basket &basket)
{
    while (!end_was_asked_for()) {
        for (int turn = 0; turn < 100; turn++)
            shop::check_out(basket); // marker: call of check_out
    }
}

int main()
{
    hold_end_signals();
    say_ready();
    shop::Basket basket;
    serve(basket);
}
