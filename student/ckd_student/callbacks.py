"""What hears of a training step: the progress on the screen, and Ctrl-C."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ckd_cache.progress import Progress, ProgressTask

__all__ = ["GentleStop", "ReportProgress", "stopping_gently"]


class ReportProgress(TrainerCallback):
    """Reports steps, and the loss where TrainingArguments ask for logging."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.task: ProgressTask | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Open the bar; a resumed run begins where the checkpoint stands."""
        del args, control
        if state.is_world_process_zero:
            self.task = self.progress.task(
                "training", total=state.max_steps, unit="steps", already=state.global_step
            )

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Count a step of the optimizer."""
        del args, state, control
        if self.task is not None:
            self.task.advance()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Say the loss of the last steps, or the held-out one."""
        del args, control
        named = {"loss": "loss", "eval_loss": "held-out loss"}
        for key, name in named.items():
            if logs and key in logs and state.is_world_process_zero and self.task is not None:
                self.progress.note(f"step {state.global_step:,}: {name} {logs[key]:.4f}")

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Close the bar."""
        del args, state, control
        if self.task is not None:
            self.task.done()
            self.task = None


class GentleStop(TrainerCallback):
    """Ends training after the current step, with a checkpoint, once that is asked for."""

    def __init__(self) -> None:
        self.asked = False

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Save and stop if asked, unless this was the last step anyway."""
        del args
        if self.asked and state.global_step < state.max_steps:
            control.should_save = True
            control.should_training_stop = True


@contextmanager
def stopping_gently(stop: GentleStop) -> Iterator[None]:
    """Within, the first Ctrl-C asks for a gentle stop; a second one interrupts at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)

    def ask(_signal: int, _frame: FrameType | None) -> None:
        stop.asked = True
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
