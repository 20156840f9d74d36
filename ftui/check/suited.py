"""What suits rows that are new: the settings that a preset chose for its own rows, chosen for these."""

from __future__ import annotations

from ftui.check.numbers import token_numbers
from ftui.config import FEWEST_ROWS, EvaluationSettings, RunConfig
from ftui.dataset import Rows, SplitSettings
from ftui.doctor import suggested_epochs
from ftui.examples import encoding_of, prepare
from ftui.models import config_of, model_folder

SAMPLED = 2000
LONGEST_ROW = 1024  # beyond it a few rows would cost memory for all: 95 % of them are enough


def suited(config: RunConfig, rows: Rows) -> RunConfig:
    """`config` with what a preset chose for its own rows chosen for these: epochs, lengths, split, checks and watch prompts.

    Looks at the first 2,000 rows. UserError where the template does not fit them or the model cannot be had.
    """
    base_dir = model_folder(config.base_model, config.revision, report=lambda _: None, weights=False)
    model_config = config_of(base_dir)
    context = (model_config.get("text_config") or model_config).get("max_position_embeddings") or LONGEST_ROW
    encoding = encoding_of(config, base_dir)
    whole = config.training.model_copy(update={"max_length": context})
    split = SplitSettings(seed=config.split.seed)
    if 3 * FEWEST_ROWS <= len(rows) < 10 * FEWEST_ROWS:  # a tenth, the usual share, is too few for a verdict
        split = split.model_copy(update={"test": FEWEST_ROWS})
    config = config.model_copy(update={"split": split, "training": whole, "watch_prompts": ()})
    sample = prepare(config, encoding, rows.take(range(min(len(rows), SAMPLED))))
    sample.check_trainable()
    lengths = token_numbers(sample, context)
    longest = lengths["max"] if lengths["max"] <= LONGEST_ROW else lengths["p95"]
    answers = [16, *(int(part.trained.max(initial=0)) for part in sample.parts.values() if not config.template.text)]
    training = {
        "num_train_epochs": suggested_epochs(len(sample.train) * len(rows) // len(sample.rows)),
        "max_steps": -1,
        "max_length": min(_rounded(1.1 * longest, 64), context),
        "eval_steps": 0.2,
    }
    evaluation = EvaluationSettings(
        baselines=config.evaluation.baselines,
        max_new_tokens=min(_rounded(max(answers) * 5 / 4, 16), LONGEST_ROW),
    )
    return config.model_copy(update={"training": whole.model_copy(update=training), "evaluation": evaluation})


def _rounded(length: float, to: int) -> int:
    """Up to the next multiple."""
    return int(-(-length // to)) * to
