/* A chain through hand-written assembly that keeps a frame pointer and has no unwind rules (.cfi), as leaf and between
 * functions of C. Arguments and output are those of unwind_chain. */
#include "target.h"

void assembly_outer(void);

NAMED void between_assembly(void);
void assembly_leaf(void);

__asm__(".text\n"
        ".globl assembly_leaf\n"
        ".type assembly_leaf, @function\n"
        "assembly_leaf:\n"
        "    push %rbp\n"
        "    mov %rsp, %rbp\n"
        "    sub $64, %rsp\n"
        "    mov $3000000, %rax\n"
        "1:  dec %rax\n"
        "    jnz 1b\n"
        "    leave\n"
        "    ret\n"
        ".size assembly_leaf, . - assembly_leaf\n"
        ".globl assembly_outer\n"
        ".type assembly_outer, @function\n"
        "assembly_outer:\n"
        "    push %rbp\n"
        "    mov %rsp, %rbp\n"
        "    push %rbx\n"
        "    sub $72, %rsp\n"
        "    call between_assembly\n"
        "    add $72, %rsp\n"
        "    pop %rbx\n"
        "    pop %rbp\n"
        "    ret\n"
        ".size assembly_outer, . - assembly_outer\n");

NAMED void between_assembly(void)
{
    assembly_leaf();
    KEEP_FRAME();
}

NAMED void calls_assembly(void)
{
    assembly_outer();
    KEEP_FRAME();
}

int main(int argc, char **argv)
{
    const double seconds = number_option(argc, argv, "--seconds", 0);
    hold_end_signals();
    puts("{\"scenario\": \"assembly\", \"may_truncate\": false, \"chains\": "
         "[[\"assembly_leaf\", \"between_assembly\", \"assembly_outer\", \"calls_assembly\", \"main\"]]}");
    say_ready();
    long burns = 0;
    const int64_t end = wall_ns() + (int64_t)(seconds * 1e9);
    for (; !end_was_asked_for() && (seconds <= 0 || wall_ns() < end); burns++)
        calls_assembly();
    printf("{\"burns\": %ld}\n", burns);
    return 0;
}
