// What the scenarios of unwind_truth share.
//
// Each scenario burns its CPU in `burn_leaf`, under a chain of functions that its source dictates. A chain is a list of
// function names, leaf first, down to `main` or to a thread's first function. "*" stands for one or more frames of other
// modules (libc, PLT stubs, signal return). Where the optimiser turns a call into a jump, the chain depends on
// __OPTIMIZE__.
#pragma once

#include "target.h"

#include <initializer_list>
#include <string>
#include <vector>

using Chain = std::vector<std::string>;

struct Scenario {
    const char *name;
    std::vector<Chain> chains;
    // Runs for about one burn; called until the time is over.
    void (*run)();
    // Set where the copy of the stack can't hold all of it: the chain may then end early, in a marked truncation.
    bool may_truncate = false;
};

extern "C" void burn_leaf(uint64_t turns);

// Some milliseconds.
extern uint64_t burn_turns;

std::vector<Scenario> plain_scenarios();
std::vector<Scenario> special_scenarios();
