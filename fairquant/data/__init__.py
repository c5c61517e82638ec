"""Images: decoded once, split without leaks, batched deterministically."""
