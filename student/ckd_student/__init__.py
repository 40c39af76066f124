"""Train and evaluate students from a cache, with no teacher in memory."""
