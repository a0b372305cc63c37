"""Names: address spaces, whole stacks without frame pointers, symbols."""
