"""Small programs that a test compiles for their debug info; nobody runs them.

They have what makes debug info difficult: functions inlined into inlined ones, lambdas, functions in several parts,
functions without a linkage name, and assembly, which has lines but no functions.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.support.debug_files import function_ranges
from tests.support.needs import find_program
from tests.support.targets import BuildFailed

C_SOURCE = """\
extern int abort_now(int) __attribute__((noreturn, cold));
volatile int sink;

static inline __attribute__((always_inline)) int square(int number)
{
    sink = number;
    return number * number;
}

static inline __attribute__((always_inline)) int twice_squared(int number)
{
    int sum = 0;
    for (int turn = 0; turn < number; turn++) {
        int step = square(turn);
        sum += step + square(sink);
    }
    return sum;
}

static __attribute__((noinline)) int only_here(int number)
{
    return twice_squared(number) + square(number + 1);
}

__attribute__((noinline)) int __its_inner_name(int number)
{
    sink = number;
    return sink + 2;
}
int its_name(int) __attribute__((alias("__its_inner_name")));

__attribute__((noinline)) int parted(int number)
{
    if (__builtin_expect(number < sink, 0)) {
        sink = square(number);
        abort_now(number);
    }
    return twice_squared(number);
}

int main(int count, char **words)
{
    (void)words;
    return only_here(count) + parted(count) + its_name(count);
}
"""

C_HELPER_SOURCE = """\
extern volatile int sink;

__attribute__((noreturn, cold)) int abort_now(int number)
{
    while (1)
        sink = number;
}
"""

CPP_SOURCE = """\
namespace shop {
namespace {
volatile int sink;

struct Tax {
    int rate;
    __attribute__((always_inline)) int of(int price) const { sink = price; return price * rate; }
};

template <class Work> __attribute__((always_inline)) inline int each(int count, Work work)
{
    int sum = 0;
    for (int turn = 0; turn < count; turn++)
        sum += work(turn);
    return sum;
}

__attribute__((noinline)) int hidden(int price)
{
    return Tax{price}.of(sink);
}
} // namespace

template <class Number> __attribute__((noinline)) Number total(Number count)
{
    Tax tax{3};
    auto price = [tax](int article) __attribute__((always_inline)) { return tax.of(article) + sink; };
    return each(count, price) + hidden(count);
}

class Till {
  public:
    __attribute__((noinline)) explicit Till(int count) : count_(count) { sink = count; }
    __attribute__((noinline)) virtual ~Till() { sink = count_; }
    __attribute__((noinline)) virtual int pay(int price);

  private:
    int count_;
};

int Till::pay(int price)
{
    if (price < sink)
        throw price;
    auto change = [&](int paid) __attribute__((noinline)) { return paid - price - sink; };
    return change(count_) + total(price);
}
} // namespace shop

static __attribute__((noinline)) int plain(int count)
{
    return shop::total(static_cast<long>(count));
}

int main(int count, char **)
{
    try {
        shop::Till till(count);
        return till.pay(count) + plain(count);
    } catch (int price) {
        return price;
    }
}
"""

# Assemblers write an entry for what is a function (.type), as `main` is; `by_hand` has lines only.
ASSEMBLY_SOURCE = """\
        .text
        .globl  main
        .type   main, @function
main:
        xorl    %eax, %eax
        call    by_hand
        ret
        .size   main, .-main
by_hand:
        incl    %eax
        ret
        .size   by_hand, .-by_hand
        .section .note.GNU-stack,"",@progbits
"""

_COMPILERS = {".c": "cc", ".cpp": "c++", ".s": "cc"}


def compile_program(folder: Path, sources: dict[str, str], flags: Sequence[str]) -> Path:
    """Write `sources` (text by file name) to `folder` and compile them into `folder/program`. Raises BuildFailed."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in sources.items():
        (folder / name).write_text(text)
    compiler = str(find_program(_COMPILERS[Path(next(iter(sources))).suffix]))
    program = folder / "program"
    command = [compiler, *flags, *(str(folder / name) for name in sources), "-o", str(program)]
    # In its folder: with -gsplit-dwarf the names of .dwo files count from there.
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    if done.returncode != 0:
        raise BuildFailed(f"{' '.join(command)}\n{done.stderr}")
    return program


def own_instructions(program: Path) -> dict[str, list[int]]:
    """The addresses as linked of the instructions of each function that the program's own sources have.

    A function's name is its symbol's. What the C library's start-up files bring along is left out, and so is what
    fills the gaps between functions.
    """
    ranges = {name: range(start, start + size) for name, (start, size) in function_ranges(program).items()}
    command = [str(find_program("objdump")), "--disassemble", "--no-show-raw-insn", "--section=.text", str(program)]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    functions: dict[str, list[int]] = {}
    name = ""
    for line in listing.splitlines():
        head = re.fullmatch(r"[0-9a-f]+ <(.+)>:", line)
        if head:
            name = head.group(1)
        elif (instruction := re.match(r" *([0-9a-f]+):\t", line)) and name not in _START_UP:
            address = int(instruction.group(1), 16)
            if address in ranges.get(name, ()):
                functions.setdefault(name, []).append(address)
    return functions


_START_UP = frozenset({"_start", "_dl_relocate_static_pie"})
"""Those of them that have a size."""


def objcopy(*arguments: str | os.PathLike[str]) -> None:
    """Run objcopy, which has to succeed."""
    subprocess.run([find_program("objcopy"), *arguments], check=True, capture_output=True)
