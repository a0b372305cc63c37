// The shared object that unwind_truth's scenario `dlopen` loads: it calls back into the program.
#include "target.h"

extern "C" NAMED void plugin_inner(void (*callback)())
{
    callback();
    KEEP_FRAME();
}

extern "C" NAMED void plugin_entry(void (*callback)())
{
    plugin_inner(callback);
    KEEP_FRAME();
}
