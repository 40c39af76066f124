"""Pure array functions: the reference semantics of every number in a cache."""
