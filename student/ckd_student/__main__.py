"""What ``python -m ckd_student`` and torchrun start: the command ``ckd-student``."""

from __future__ import annotations

from ckd_student.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
