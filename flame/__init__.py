"""What a profile shows: stack tree, layout, flame graph, folded stacks, top functions."""
