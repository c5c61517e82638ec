"""Images: downloaded, decoded once, split without leaks, batched deterministically."""
