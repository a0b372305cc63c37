// Functions whose demangled names hold what XML and HTML give a meaning to: <, >, &.
//
//     cpp_names [--seconds S]
#include "target.h"

namespace shop {

template <typename Item, int Size> struct Basket {
    NAMED bool operator<(const Basket &other) const
    {
        spin(400000);
        return this < &other;
    }
    template <typename Other> NAMED void exchange(Basket<Other, Size> &&other)
    {
        __asm__ volatile("" : : "r"(&other));
        spin(400000);
    }
};

} // namespace shop

int main(int argc, char **argv)
{
    const double seconds = number_option(argc, argv, "--seconds", 0);
    shop::Basket<int, 3> left, right;
    hold_end_signals();
    const int64_t end = wall_ns() + (int64_t)(seconds * 1e9);
    say_ready();
    while (!end_was_asked_for() && (seconds <= 0 || wall_ns() < end)) {
        (void)(left < right);
        left.exchange(shop::Basket<char *, 3>());
    }
    return 0;
}
