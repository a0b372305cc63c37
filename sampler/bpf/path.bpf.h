// SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0)
//
// What programs have in common that tell paths of user code apart.

// bpf_probe_read_user under a name of ours: at BCC's own it reads all symbols of the kernel, to find out whether there is
// such a helper, which takes as long as the rest of compiling.
static long (*const read_user)(void *to, u32 size, const void *from) = (void *)BPF_FUNC_probe_read_user;

struct registers {
    u64 r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di, orig_ax, ip, cs, flags, sp, ss;
};

#ifndef STACK_WORDS
#define STACK_WORDS 48
#endif
#define PATH_STEPS 4

struct stack_top {
    u64 words[STACK_WORDS];
};


// A number for the path that led here: made of the first words on the stack that lie in the program's code, return
// addresses mostly. Paths that differ there have different ones; one path may have several, by what calls left behind.
// `top` is room to work in, of a map: BCC rewrites what is done with maps in sources only, not in headers.
static __always_inline u32 path_of(struct stack_top *top, u64 stack, u64 code_start, u64 code_bytes)
{
    u32 path = 0, steps = 0;
    if (!top || !stack || read_user(top, sizeof *top, (void *)stack))
        return 0;
#pragma clang loop unroll(disable)
    for (int at = 0; at < STACK_WORDS; at++) {
        u64 within = top->words[at] - code_start;
        if (within < code_bytes && steps < PATH_STEPS) {
            path = (path ^ (u32)within) * 0x9e3779b1;
            steps++;
        }
    }
    return path;
}
