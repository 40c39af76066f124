"""The command ``ckd-cache``. Imports nothing heavy at module level."""
