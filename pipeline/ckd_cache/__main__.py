"""What ``python -m ckd_cache`` starts: the command ``ckd-cache``."""

from __future__ import annotations

from ckd_cache.cli.main import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
