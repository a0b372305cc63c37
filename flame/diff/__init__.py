"""Two profiles, or two sets of recordings, side by side: what changed, and whether that is more than noise."""
