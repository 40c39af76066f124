"""transformers.Trainer with the loss of cached targets, at slots only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Sampler
from transformers import (
    PreTrainedModel,
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from ckd_cache.errors import StudentError
from ckd_cache.modeling.slot_head import plain_slot_logits, slot_logits
from ckd_cache.progress import SILENT, Progress
from ckd_student.evaluation import (
    HeldOut,
    Tally,
    evaluate_held_out,
    merged,
    slot_batch,
    works_at_slots,
)
from ckd_student.losses import slot_loss_sum
from ckd_student.output import copy_files
from ckd_student.recipe import LossRecipe
from ckd_student.stream import ExampleStream
from ckd_student.torch_data import Collator, OrderSampler, StreamDataset

__all__ = ["StudentData", "StudentTrainer"]


@dataclass(frozen=True, slots=True)
class StudentData:
    """What a student reads.

    Attributes:
        train: the examples it is trained on, with their target unless it learns from gold alone.
        held_out: the examples its loss is measured on; None measures nothing.
        support_size: entries of the support; further logits of a model are cut off.
        pad_id: fills batches.
        tokenizer_files: copied beside every saved model.
    """

    train: ExampleStream
    held_out: HeldOut | None
    support_size: int
    pad_id: int
    tokenizer_files: Sequence[Path]


class StudentTrainer(Trainer):
    """Trains on the sum over slots of the recipe's loss / slots of the global step.

    The global step is all processes and all accumulation steps: so 4 batches of 1 give the
    gradient of 1 batch of 4, and two processes that of one.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        args: TrainingArguments,
        data: StudentData,
        loss: LossRecipe,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        """Make a trainer.

        Args:
            model: the student.
            args: of transformers, with ``remove_unused_columns`` false.
            data: what it reads.
            loss: what it minimises.
            callbacks: told what happens, besides those that ``args`` ask for.

        Raises:
            StudentError: several GPUs are visible to one process, or the model does not run on
                the examples.
        """
        if args.n_gpu > 1:
            message = (
                f"{args.n_gpu} GPUs are visible to one process. Start one process a GPU "
                f"(torchrun --nproc-per-node {args.n_gpu} -m ckd_student …), or show one with "
                "CUDA_VISIBLE_DEVICES=0."
            )
            raise StudentError(message)
        super().__init__(
            model=model,
            args=args,
            data_collator=Collator(data.pad_id),
            train_dataset=StreamDataset(data.train),
            eval_dataset=None if data.held_out is None else StreamDataset(data.held_out.stream),
            callbacks=list(callbacks),
        )
        for callback in (PrinterCallback, ProgressCallback):
            self.remove_callback(callback)
        # So that Trainer counts the labels of the global step and leaves the scaling to us.
        self.model_accepts_loss_kwargs = True
        self.loss_is_scaled_for_ga = True
        self.student: nn.Module = model
        self.student_data = data
        self.loss_recipe = loss
        model.to(args.device)  # type: ignore[arg-type]
        self.at_slots = works_at_slots(model, data.train, data.pad_id)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Loss of a batch: its sum over slots / slots of the global step.

        Args:
            model: the student, perhaps wrapped.
            inputs: a batch of `Collator`.
            return_outputs: also give the logits at slots.
            num_items_in_batch: slots of the global step; None takes those of the batch.
        """
        slots = slot_batch(inputs)
        forward = slot_logits if self.at_slots else plain_slot_logits
        logits = forward(model, inputs, slots.rows, slots.positions)
        logits = logits[:, : self.student_data.support_size]
        recipe = self.loss_recipe
        total = slot_loss_sum(
            logits, slots.gold, slots.target, recipe.distill, recipe.hard, recipe.temperature
        )
        items = slots.gold.shape[0] if num_items_in_batch is None else num_items_in_batch
        loss = total / torch.as_tensor(items, device=total.device).clamp_min(1)
        if num_items_in_batch is not None:
            # Gradients of processes are averaged, our denominator already counts all of them.
            loss = loss * self.accelerator.num_processes
        return (loss, {"logits": logits}) if return_outputs else loss

    def evaluate(
        self,
        eval_dataset: object = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Held-out loss (gold nats a slot), top-1, top-5 and KL to the target, over all slots.

        Args:
            eval_dataset: not used; the held-out examples are fixed.
            ignore_keys: not used.
            metric_key_prefix: stands before each name.
        """
        del eval_dataset, ignore_keys
        tally = self.measure()
        measured = {} if tally is None else tally.scores().to_json()
        metrics = {
            f"{metric_key_prefix}_{name}": value
            for name, value in measured.items()
            if value is not None
        }
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def measure(self, progress: Progress = SILENT) -> Tally | None:
        """Sums over the held-out slots, of all processes together; None if nothing is held out.

        Args:
            progress: told how far this process is with its share.
        """
        held_out = self.student_data.held_out
        if held_out is None:
            return None
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        share = len(range(rank, len(held_out.stream), world))
        task = progress.task("evaluating", total=share, unit="examples")
        tally = evaluate_held_out(
            self.student,
            held_out,
            batch_size=self.args.per_device_eval_batch_size,
            temperature=self.loss_recipe.temperature,
            at_slots=self.at_slots,
            share=(rank, world),
            on_examples=task.advance,
        )
        task.done()
        if world > 1:
            from accelerate.utils import gather_object

            return merged(gather_object([tally]))
        return tally

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the plain model with the tokenizer of the cache beside it."""
        super().save_model(output_dir, _internal_call)
        if self.args.should_save:
            folder = Path(output_dir or str(self.args.output_dir))
            copy_files(self.student_data.tokenizer_files, folder)

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        del train_dataset
        return OrderSampler(self.student_data.train)
