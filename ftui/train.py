"""train: QLoRA with trl's SFTTrainer on rows that ftui has encoded itself. Everything it says goes through the run.

Rows are put side by side without padding, and on a CPU the head computes only the tokens that are learned. This file
does not know how rows were rendered, nor who watches.
"""

from __future__ import annotations

import functools
import math
import time
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ftui.attention import PACKABLE
from ftui.config import RunConfig, TrainingSettings
from ftui.device import memory_used, this_device
from ftui.encoding import IGNORED, Encoding, Message
from ftui.errors import UserError
from ftui.examples import Example, Examples
from ftui.replies import reply_to_all
from ftui.runs import Run

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel, TrainerCallback, TrainerState
    from trl import SFTConfig, SFTTrainer

RESULTS = "step,train_loss,train_mean_token_accuracy,valid_loss,validation_mean_token_accuracy,full_valid_loss,full_valid_mean_token_accuracy"
WATCHED_TOKENS = 48
HEAD_TOKENS = 2048


class Trained(NamedTuple):
    """`model`: base and adapter as trained, in eval mode. `steps`: how many were done; `stopped`: whether somebody asked."""

    model: PreTrainedModel
    steps: int
    stopped: bool
    train_loss: float | None
    validation_loss: float | None


def train(run: Run, model: PreTrainedModel, encoding: Encoding, examples: Examples) -> Trained:
    """Trains an adapter on `model` (from `load_model`) and saves it to the run. UserError when the loss is not a number."""
    trainer = build_trainer(run.config, model, encoding, examples, run.path / "checkpoints")
    questions = watch_questions(run.config, examples)
    reporter = _Reporter(run, encoding, questions, trainer.state)
    trainer.add_callback(_callback(reporter))
    reporter.ask(trainer.model, step=0)
    result = trainer.train()
    trained = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False).eval()
    if not math.isfinite(result.training_loss):
        raise UserError(
            "The loss is no longer a number. A tenth of the learning rate usually cures this. Nothing of this run is kept."
        )
    with run.new_folder("adapter") as folder:
        trained.save_pretrained(folder)
        encoding.save(folder)
    trainer.optimizer = trainer.lr_scheduler = None
    trainer.accelerator.free_memory()
    return Trained(trained, trainer.state.global_step, run.stop_wanted, reporter.train_loss, trainer.state.best_metric)


def steps_of(settings: TrainingSettings, rows: int) -> int:
    """Optimizer steps of a run on `rows` rows."""
    if settings.max_steps > 0:
        return settings.max_steps
    per_epoch = math.ceil(math.ceil(rows / settings.per_device_train_batch_size) / settings.gradient_accumulation_steps)
    return math.ceil(per_epoch * settings.num_train_epochs)


def watch_questions(config: RunConfig, examples: Examples) -> list[list[Message]]:
    """What the model is asked while it learns: the watch prompts, else the first three validation rows."""
    if config.watch_prompts:
        return [config.template.turn(text) for text in config.watch_prompts]
    return [example.question for example in examples.validation if example.is_chat][:3]


def build_trainer(
    config: RunConfig, model: PreTrainedModel, encoding: Encoding, examples: Examples, folder: Path
) -> SFTTrainer:
    """trl's trainer over rows that are encoded already, its adapter in fp32 on every device."""
    from peft import LoraConfig
    from transformers import PrinterCallback
    from trl import SFTTrainer

    lora = config.lora.model_dump()
    if isinstance(lora["target_modules"], tuple):
        lora["target_modules"] = list(lora["target_modules"])
    trainer = SFTTrainer(
        model=model,
        args=_arguments(config.training, model, examples, folder),
        train_dataset=_dataset(examples.train),
        eval_dataset=_dataset(examples.validation) if examples.validation else None,
        processing_class=encoding.tokenizer,
        peft_config=LoraConfig(task_type="CAUSAL_LM", **lora),
    )
    # trl casts the adapter of a quantized base to bf16, where AdamW loses small updates and a T4 cannot train at all.
    for parameter in trainer.model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    trainer.remove_callback(PrinterCallback)
    if trainer.accelerator.scaler is not None:
        trainer.accelerator.scaler._init_scale = 1024.0  # from 65536 the first steps overflow and are skipped
    if this_device().kind == "cpu":
        _compact_head(trainer.model.get_base_model())
    return trainer


def _arguments(settings: TrainingSettings, model: PreTrainedModel, examples: Examples, folder: Path) -> SFTConfig:
    from trl import SFTConfig

    device = this_device()
    every = _every(settings.eval_steps, steps_of(settings, len(examples.train)))
    checks = (
        {"eval_strategy": "steps", "eval_steps": every, "load_best_model_at_end": True} if examples.validation else {}
    )
    values = settings.model_dump(exclude={"eval_steps", "max_length", "gradient_checkpointing"})
    return SFTConfig(
        output_dir=str(folder),
        **values,
        **checks,
        per_device_eval_batch_size=settings.per_device_train_batch_size,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=2,
        # Rows lie side by side, unpadded; they are cut to max_length before they come here.
        padding_free=model.config.model_type in PACKABLE,
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
        activation_checkpointing=settings.gradient_checkpointing,
        gradient_checkpointing=False,
        bf16=device.bf16,
        fp16=device.kind == "cuda" and not device.bf16,
        use_cpu=device.kind == "cpu",
        logging_nan_inf_filter=False,
        dataloader_pin_memory=device.kind == "cuda",
        disable_tqdm=True,
        report_to="none",
    )


def _every(eval_steps: float, steps: int) -> int:
    return max(1, min(steps, math.ceil(eval_steps * steps if eval_steps < 1 else eval_steps)))


def _dataset(examples: list[Example]) -> Dataset:
    from datasets import Dataset

    return Dataset.from_dict(
        {
            "input_ids": [example.encoded.input_ids for example in examples],
            "labels": [example.encoded.labels for example in examples],
        }
    )


def _compact_head(model: PreTrainedModel) -> None:
    """Lets trl's fused head compute only the learned tokens, as it does on CUDA; on a CPU it computes all of them.

    A fifth of a small model's work. Heads that scale or cap their logits keep trl's own path.
    """
    import torch
    from torch.nn.functional import cross_entropy
    from trl.trainer.utils import FusedCausalLMOutput

    config = model.config.get_text_config().to_dict()
    if any(
        config.get(key)
        for key in (
            "final_logit_softcapping",
            "logit_scale",
            "output_multiplier",
            "lm_head_multiplier",
            "logits_scaling",
        )
    ):
        return
    theirs = model.forward

    @functools.wraps(type(model).forward)
    def forward(self: Any, *args: Any, fused_lm_head: bool = False, labels: Any = None, **kwargs: Any) -> Any:
        learned = labels[:, 1:] != IGNORED if fused_lm_head else None
        if learned is None or int(learned.sum()) > HEAD_TOKENS:
            return theirs(*args, fused_lm_head=fused_lm_head, labels=labels, **kwargs)
        kwargs["use_cache"] = False
        hidden = self.base_model(*args, **kwargs).last_hidden_state[:, :-1][learned]
        logits, targets = self.get_output_embeddings()(hidden).float(), labels[:, 1:][learned]
        log_probs = -cross_entropy(logits, targets, reduction="none")
        zeros = log_probs.new_zeros(learned.shape)
        return FusedCausalLMOutput(
            log_probs=zeros.masked_scatter(learned, log_probs),
            entropy=zeros.detach(),
            is_top1=torch.zeros_like(learned).masked_scatter(learned, logits.detach().argmax(-1) == targets),
            label_mask=learned,
        )

    model.forward = types.MethodType(forward, model)


class _Reporter:
    """Turns what the trainer logs into events of the run: metrics, watch replies, results.csv."""

    def __init__(self, run: Run, encoding: Encoding, questions: list[list[Message]], state: TrainerState) -> None:
        self.run, self.encoding, self.questions, self.state = run, encoding, questions, state
        self.results: dict[int, dict[str, Any]] = {}
        self.train_loss: float | None = None
        self._asked_seconds = 0.0
        self._started = time.perf_counter()

    def start(self) -> None:
        self._started, self._asked_seconds = time.perf_counter(), 0.0

    def log(self, state: TrainerState, logs: dict[str, float]) -> None:
        """One metrics event per line that the trainer logs: `loss` in nats a token, `memory` in bytes, times in seconds."""
        row = self.results.setdefault(state.global_step, {"step": state.global_step})
        if "loss" in logs:
            self.train_loss = logs["loss"]
            if not math.isfinite(self.train_loss):
                raise UserError(
                    f"The loss is not a number at step {state.global_step}. A tenth of the learning rate usually cures this."
                )
            row |= {"train_loss": logs["loss"], "train_mean_token_accuracy": logs.get("mean_token_accuracy")}
        elif "eval_loss" in logs:
            accuracy = logs.get("eval_mean_token_accuracy")
            row |= {"valid_loss": logs["eval_loss"], "validation_mean_token_accuracy": accuracy}
            row |= {"full_valid_loss": logs["eval_loss"], "full_valid_mean_token_accuracy": accuracy}
        else:
            return
        seconds = time.perf_counter() - self._started
        tokens = int(logs.get("num_tokens") or logs.get("eval_num_tokens") or 0)
        self.run.log(
            "metrics",
            step=state.global_step,
            steps=state.max_steps,
            epoch=round(state.epoch or 0, 3),
            loss=logs.get("loss"),
            validation_loss=logs.get("eval_loss"),
            learning_rate=logs.get("learning_rate"),
            grad_norm=logs.get("grad_norm"),
            tokens=tokens,
            tokens_per_second=round(tokens / max(seconds - self._asked_seconds, 1e-3), 1),
            memory=memory_used(),
            seconds=round(seconds, 1),
            seconds_left=round(seconds / max(state.global_step, 1) * (state.max_steps - state.global_step), 1),
        )

    def ask(self, model: PreTrainedModel, step: int) -> None:
        """Asks the watch prompts and writes the answers down."""
        began = time.perf_counter()
        replies = reply_to_all(model, self.encoding, self.questions, WATCHED_TOKENS, lambda: self.run.stop_wanted)
        self._asked_seconds += time.perf_counter() - began
        for question, reply in zip(self.questions, replies, strict=False):
            self.run.log("sample", step=step, prompt=question[-1]["content"], reply=reply.text, finished=reply.finished)

    def write_results(self) -> None:
        columns = RESULTS.split(",")
        lines = [
            ",".join("" if row.get(column) is None else f"{row[column]:.6g}" for column in columns)
            for row in self.results.values()
        ]
        self.run.write("results.csv", "\n".join([RESULTS, *lines]) + "\n")


def _callback(reporter: _Reporter) -> TrainerCallback:
    from transformers import TrainerCallback

    class Callback(TrainerCallback):
        def on_train_begin(self, args, state, control, **kwargs):
            reporter.start()

        def on_log(self, args, state, control, logs, **kwargs):
            reporter.log(state, logs)

        def on_evaluate(self, args, state, control, model, **kwargs):
            reporter.ask(model, state.global_step)
            reporter.write_results()

        def on_substep_end(self, args, state, control, **kwargs):
            control.should_training_stop = control.should_training_stop or reporter.run.stop_wanted

        def on_step_end(self, args, state, control, **kwargs):
            control.should_training_stop = control.should_training_stop or reporter.run.stop_wanted

        def on_train_end(self, args, state, control, **kwargs):
            reporter.write_results()

    return Callback()
