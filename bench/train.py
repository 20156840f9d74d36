"""make bench: ftui's training beside a plain trl script with trl's defaults, in one run, as ratios.

Equal: weights (the starter; NF4 with double quantization, or bf16), rows and their order, chat template, tokens and labels, LoRA,
learning rate, rows a step, steps. Free: how the rows are batched, what is recomputed, how the loss is computed. Each contender runs in
a process of its own, in turns. Measured: non-padding tokens a second over all steps but the first two, counted from the
batches that the trainer gets; the seconds of processor time they took, good for ftui before and after on a busy machine
(a plain script's idle threads spin, which counts); peak resident memory; the loss on the same held-out rows afterwards.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
WARM_UP = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--data", help="a file with the columns question and answer, in place of rows of the presets")
    parser.add_argument("--bf16", action="store_true", help="a base in 16 bits in place of 4")
    parser.add_argument("--only", choices=CONTENDERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        print(json.dumps(CONTENDERS[options.only](options)))
        return
    found: dict[str, list[dict]] = {name: [] for name in CONTENDERS}
    for turn in range(options.rounds):
        for name in CONTENDERS:
            found[name].append(_in_own_process(name))
            print(f"round {turn + 1} {name:<6} {_line(found[name][-1])}", flush=True)
    median = {
        name: {key: statistics.median(run[key] for run in runs) for key in runs[0]} for name, runs in found.items()
    }
    ftui, plain = median["ftui"], median["plain"]
    print(f"tokens/s: {ftui['rate'] / plain['rate']:.2f} × plain trl ({ftui['rate']:.0f} and {plain['rate']:.0f})")
    print(
        f"peak memory: {ftui['memory'] / plain['memory']:.2f} × plain trl ({ftui['memory'] / 1e9:.1f} and {plain['memory'] / 1e9:.1f} GB)"
    )
    print(
        f"held-out loss: {ftui['loss'] / plain['loss']:.4f} × plain trl ({ftui['loss']:.4f} and {plain['loss']:.4f})"
        f" after {ftui['learned']:.0f} and {plain['learned']:.0f} learned tokens"
    )


def _line(run: dict) -> str:
    return (
        f"{run['rate']:.0f} tokens/s, {run['processor']:.2f} processor seconds per 1,000 tokens, "
        f"{run['memory'] / 1e9:.2f} GB, held-out loss {run['loss']:.4f}"
    )


def _in_own_process(name: str) -> dict:
    from ftui.__main__ import BEFORE_TORCH

    command = [sys.executable, *sys.argv, "--only", name]
    # ftui sets what it needs before torch; a plain script has what the environment gives it.
    plain = {key: value for key, value in os.environ.items() if key not in BEFORE_TORCH}
    environment = plain | BEFORE_TORCH if name == "ftui" else plain
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    return json.loads(done.stdout.splitlines()[-1])


def _config(options: argparse.Namespace):
    from ftui.config import RunConfig

    values = {
        "base_model": "starter",
        "dataset": {"path": "unused"},
        "template": {
            "system": "" if options.data else "{{task}}",
            "prompt": "{{question}}",
            "completion": "{{answer}}",
        },
        "quantization": {"load_in_4bit": not options.bf16},
        "split": {"validation": 32, "test": 0},
        "training": {
            "max_steps": options.steps,
            "per_device_train_batch_size": 8,
            "max_length": 512,
            "learning_rate": 2e-4,
            "eval_steps": 1000,
        },  # one check, after the last step: it is not measured
    }
    return RunConfig.parse(values)


def _rows(data: str | None):
    """Those of a file, or a third each of mails, SQL and labels: rows of 30 to 130 tokens."""
    from ftui.config import RunConfig
    from ftui.dataset import DatasetSource, Rows

    if data:
        return DatasetSource(path=data).load()
    parts = []
    for name in ("starter", "sql", "labels"):
        config = RunConfig.load(name)
        for row in config.dataset.load().head(120):
            system, user, answer = config.template.render(row)
            parts.append({"task": system["content"], "question": user["content"], "answer": answer["content"]})
    return Rows.gather([parts[index * 120 + row] for row in range(120) for index in range(3)])


def _prepared(options: argparse.Namespace):
    from ftui.encoding import Encoding
    from ftui.examples import prepare
    from ftui.models import load_model, load_tokenizer, model_folder

    config, folder = _config(options), model_folder("starter")
    encoding = Encoding(load_tokenizer(folder))
    return config, encoding, prepare(config, encoding, _rows(options.data)), load_model(folder, config.quantization)


def _ftui(options: argparse.Namespace) -> dict:
    from ftui.train import build_trainer

    config, encoding, examples, model = _prepared(options)
    with tempfile.TemporaryDirectory() as folder:
        trainer = build_trainer(config, model, encoding, examples, Path(folder))
        return _measured(trainer, examples)


def _plain(options: argparse.Namespace) -> dict:
    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    config, encoding, examples, model = _prepared(options)
    model.set_attn_implementation("sdpa")
    with tempfile.TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            model=model,
            args=SFTConfig(
                output_dir=folder,
                max_steps=options.steps,
                max_length=512,
                per_device_train_batch_size=8,
                learning_rate=2e-4,
                warmup_steps=config.training.warmup_steps,
                seed=config.training.seed,
                save_strategy="no",
                report_to="none",
                use_cpu=True,
                disable_tqdm=True,
            ),
            train_dataset=Dataset.from_list(
                [{"prompt": e.messages[:-1], "completion": e.messages[-1:]} for e in examples.train]
            ),
            processing_class=encoding.tokenizer,
            peft_config=LoraConfig(task_type="CAUSAL_LM", r=16, lora_alpha=32, target_modules="all-linear"),
        )
        trainer.train_dataset = trainer.train_dataset.map(_without_line_end)
        return _measured(trainer, examples)


def _without_line_end(row: dict) -> dict:
    """trl learns the line end after the stop token as well, a token that costs nothing and is never generated."""
    return {key: value[:-1] for key, value in row.items() if isinstance(value, list)}


CONTENDERS = {"ftui": _ftui, "plain": _plain}


def _measured(trainer, examples) -> dict:
    """Trains, and counts the real tokens of each step's batch and the moment it was done."""
    from transformers import TrainerCallback

    from ftui.replies import answer_losses

    tokens, learned, moments, worked = [], [], [time.perf_counter()], [time.process_time()]
    collate = trainer.data_collator

    def counting(rows):
        batch = collate(rows)
        tokens.append(sum(len(row["input_ids"]) for row in rows))
        learned.append(int((batch["labels"][:, 1:] != -100).sum()))
        return batch

    class Clock(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            moments.append(time.perf_counter())
            worked.append(time.process_time())

    trainer.data_collator = counting
    trainer.add_callback(Clock())
    trainer.train()
    steps = len(moments) - 1
    seconds = moments[-1] - moments[WARM_UP]
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    losses = answer_losses(trainer.model, [example.encoded for example in examples.validation])
    done = sum(tokens[WARM_UP:steps])
    return {
        "rate": done / seconds,
        "processor": 1000 * (worked[-1] - worked[WARM_UP]) / done,
        "memory": memory,
        "loss": statistics.fmean(losses),
        "learned": sum(learned[:steps]),
    }


if __name__ == "__main__":
    main()
