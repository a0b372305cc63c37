"""Lock attribution: which samples of a profile went into locks, and who called them."""
