"""The whole loop of one run: rows, base answers, training, tuned answers, merge, proof. In a thread or in a terminal alike.

Each stage is written to the run before it begins, so that whoever watches the folder sees it.
"""

from __future__ import annotations

import hashlib
import json
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftui.backup import Backup
from ftui.card import model_card, precision
from ftui.chat import chat_encoding, load_adapted
from ftui.config import RunConfig
from ftui.device import Lease, disk_free, forget_peak, gpu_problem, memory_peak, release_memory, this_device
from ftui.encoding import Encoding
from ftui.errors import UserError
from ftui.evaluate import Answers, answer, compare, headline, report_markdown
from ftui.examples import Example, Examples, encoding_of, prepare
from ftui.failures import explain_failure
from ftui.history import kept_sentence
from ftui.models import check_tunable, config_of, load_model, model_folder, origin, ties_words
from ftui.plan import Choice, Plan, plan_of
from ftui.proof import MERGE_FAILED, differs, merge_and_prove
from ftui.ranks import ALONE, Ranks, is_lost_rank
from ftui.replies import Reply
from ftui.runs import Run, Stopped
from ftui.train import Way, check_possible, checkpoint_at, complete_checkpoints, step_of, train

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SHUT_DOWN = "ftui was shut down. The work so far is saved; Resume goes on from there."
SHUT_DOWN_OR_LOST = (
    "ftui was shut down, or another process of this run died. The work so far is saved; Resume goes on from there."
)
OVERDUE = (
    "Another process of this run died, or ftui was shut down in the middle of a long step. "
    "Resume goes on from the newest checkpoint."
)
NOT_COMPARED = (
    "Done: trained and merged. Nothing was compared, because evaluation.limit or split.test leaves no test rows."
)
REPLY_SECONDS = 600  # a run waits for a reply that is being written


def carry_out(run: Run, lease: Lease, ranks: Ranks = ALONE, backup: Backup | None = None) -> str:
    """Carries a run out to its end, whatever that is, and returns its last state. Every failure is written to the run.

    A run that was interrupted, stopped or failed goes on from its newest complete checkpoint. UserError for a finished
    one, and for one that another process works on.
    """
    with run.held():
        if run.written_state == "done":  # perhaps by another process, a moment ago
            raise UserError(
                f"Run {run.run_id} is done, and a finished run is not trained again. Start a new one with its config."
            )
        try:
            holder = f"run {run.run_id}"
            with _copied(run, backup) as saved, lease.held_by(holder, REPLY_SECONDS, listen=lambda: _check_wanted(run)):
                _carry_out(run, lease, ranks, saved)
        except Stopped:  # while it waited for the accelerator
            _end_early(run)
    return run.written_state


def accompany(ranks: Ranks) -> bool:
    """The part of every rank but the first: it learns its share of the rows. Rank 0 says which run, and writes all of it.

    Returns whether it came to its end. A failure of this rank alone is written to the run; rank 0 ends it.
    """
    run = None
    try:
        run = Run(Path(ranks.share(None)))
        base_dir = model_folder(run.config.base_model, run.config.revision)
        encoding = encoding_of(run.config, base_dir)
        examples = prepare(run.config, encoding)
        train(  # which alone holds the base, to let it go at its end
            run,
            load_model(base_dir, run.config.quantization, to_share=ranks.share_base),
            encoding,
            examples,
            Way(ranks),
        )
        return True
    except Exception as error:
        if run and run.path.is_dir() and not is_lost_rank(error):
            trace = "" if isinstance(error, UserError) else traceback.format_exc()
            said = f"Process {ranks.index + 1} of {ranks.count}: {explain_failure(error)}"
            run.log("message", said, "error", rank=ranks.index, trace=trace)
        return False


def _copied(run: Run, backup: Backup | None) -> AbstractContextManager[Callable[[], None]]:
    """Within it a call asks for a copy. What only the backup has is brought first."""
    if backup is None:
        return nullcontext(lambda: None)
    backup.bring_checkpoints(run)
    return backup.following(run)


def _carry_out(run: Run, lease: Lease, ranks: Ranks, saved: Callable[[], None]) -> None:
    try:
        _loop(run, ranks, saved)
    except Stopped:
        _end_early(run, is_one_of_several=ranks.count > 1)
    # A run must never end silently; the sentence is for a person, the trace for us.
    except (Exception, SystemExit) as error:
        lease.note(error)
        trace = "" if isinstance(error, UserError) else traceback.format_exc()
        said = _lost_rank(run) if is_lost_rank(error) else explain_failure(error)
        run.end("failed", said, "error", trace=trace)
    finally:
        release_memory()


def _check_wanted(run: Run) -> None:
    if run.stop_wanted:
        raise Stopped


def _end_early(run: Run, steps: int | None = None, is_one_of_several: bool = False) -> None:
    """The last state of a run that was asked to stop: what is kept, and how it goes on.

    Beside others, a shutdown between steps may also come from the launcher, which ends all ranks when one has died.
    """
    if run.shutting_down:
        return run.end("interrupted", SHUT_DOWN_OR_LOST if is_one_of_several else SHUT_DOWN, "warning")
    if run.discarding:
        return run.end("stopped", "Stopped and thrown away; it lies in the trash.", "warning")
    if not run.adapter_dir.is_dir():
        if checkpoint := next(iter(complete_checkpoints(run.path / "checkpoints")), None):
            kept = f"Stopped. The checkpoint of step {step_of(checkpoint)} is kept: resume, or chat with it."
            return run.end("stopped", kept, "warning")
        return run.end("stopped", "Stopped before training began; nothing was learned.", "warning")
    after = f" after {steps} steps" if steps is not None else ""
    run.end(
        "stopped",
        f"Stopped{after}. What was learned is kept in the adapter: chat with it, merge it, or resume.",
        "warning",
    )


def _lost_rank(run: Run) -> str:
    """Another rank died; its last words of this sitting, where it had any."""
    words = None
    for event in run.events():
        words = event.message if "rank" in event.data else None if event.data.get("state") == "preparing" else words
    reason = words or "It left no word: perhaps the system ended it for lack of memory."
    return f"Another process of this run died. {reason} Resume goes on from the newest checkpoint."


def _loop(run: Run, ranks: Ranks, saved: Callable[[], None]) -> None:
    config = run.config
    with run.stage("preparing", "Reading the rows and the model."):
        base_dir, encoding, examples = _read(run, ranks)
        choice = _plan(run, base_dir, examples) if ranks.count == 1 else None
        ranks.share(str(run.path.resolve()))
        forget_peak()
        model = load_model(base_dir, config.quantization, to_share=ranks.share_base)
    test = examples.test[: config.evaluation.limit]
    before = None if ranks.share_base else _base_answers(run, "preparing", encoding, model, test)
    with run.stage("training", f"Learning from {len(examples.train)} rows."):
        trained = train(run, model, encoding, examples, Way(ranks, choice), saved)
    run.log(
        "message",
        f"The adapter is saved. {trained.kept}",
        kept=trained.kept,
        steps=trained.steps,
        train_loss=trained.train_loss,
        validation_loss=trained.validation_loss,
    )
    if trained.stopped:
        return _end_early(run, trained.steps)
    tuned = trained.model
    if ranks.share_base:
        del model
        release_memory()
        with run.stage("evaluating", "The base and its adapter are loaded once more, by one process for all GPUs."):
            tuned = load_adapted(run, base_dir, place="auto").eval()
        with tuned.disable_adapter():
            before = _base_answers(run, "evaluating", encoding, tuned, test)
    report = None
    if before:
        with run.stage("evaluating", f"The tuned model answers the same {len(test)} rows."):
            report = _report(run, encoding, tuned, test, before)
    with run.stage("merging", "Merging the adapter into the 16-bit base.", peak_memory=memory_peak()):
        proof = merge_and_prove(run, base_dir, tuned, examples)
    run.write("README.md", model_card(run, base_dir, examples, trained, report, proof))
    outcome = headline(report) if report else NOT_COMPARED
    if differs(proof):
        return run.end("done", f"{MERGE_FAILED} {outcome}", "error")
    run.end("done", outcome)


def _read(run: Run, ranks: Ranks) -> tuple[Path, Encoding, Examples]:
    """The folder of the base, how it is asked, and the rows; the run says what of them a person should know."""
    config = run.config
    base_dir = model_folder(config.base_model, config.revision, report=lambda sentence: run.log("message", sentence))
    check_tunable(base_dir)
    _check_settings(config, base_dir, ranks)
    encoding = encoding_of(config, base_dir)
    rows = config.dataset.load()
    examples = prepare(config, encoding, rows, run.counting("prepared", len(rows)))
    examples.check_trainable()
    _check_same_rows(run, examples)
    run.write("split.json", json.dumps(examples.split_json()))
    for note in (*encoding.notes, *examples.notes()):
        run.log("message", note, "warning")
    for name in sorted(set(config.evaluation.baselines) - {"zero_shot"}):
        run.log("message", f"The baseline {name} is not compared yet; only zero_shot is.", "warning")
    if config.evaluation.metrics != "auto":
        run.log("message", "The metrics that are named are not chosen from yet; auto is.", "warning")
    run.log(
        "message",
        f"{len(examples.train)} rows to learn from, {len(examples.validation)} to watch, {len(examples.test)} kept out for the test.",
    )
    run.log("message", f"Base model: {origin(config.base_model, base_dir)}. Computing in {precision(config)}.")
    if problem := gpu_problem():
        run.log("message", problem, "warning")
    if config.adapter:
        run.log("message", f"It goes on from the adapter of {config.adapter}, rank {config.lora.r}.")
    if ranks.count > 1:
        run.log("message", f"{ranks.count} processes learn together.")
    return base_dir, encoding, examples


def _check_settings(config: RunConfig, base_dir: Path, ranks: Ranks) -> None:
    """What would fail only minutes later. UserError names it now."""
    check_possible(config)
    if ranks.share_base and "8bit" in config.training.optim:
        raise UserError(f"training.optim: {config.training.optim} cannot share an adapter (FSDP). Choose adamw_torch.")
    if ranks.share_base and config.lora.starts_from_base:
        raise UserError("lora.init_lora_weights: this start needs the whole base in each process. Set it to true.")
    if "lm_head" in config.lora.target_modules:
        raise UserError(
            "lora.target_modules: an adapter on lm_head would never be trained, because the loss is computed from that "
            "layer's own weights. Leave it out."
        )
    if "embed_tokens" in config.lora.target_modules and ties_words(config_of(base_dir)):
        raise UserError(
            "lora.target_modules: this model reads and writes words with the same weights, so embed_tokens cannot be "
            "merged. Leave it out."
        )


def _check_same_rows(run: Run, examples: Examples) -> None:
    """UserError where a run would go on, or be compared, with other rows: what it has learned could stand in its test now."""
    known = run.read_json("split.json")
    has_learned = run.adapter_dir.is_dir() or complete_checkpoints(run.checkpoints_dir)
    if has_learned and known and known != examples.split_json():
        raise UserError(
            "The rows of this run, or the way they are split, are not those that it began with, and what it has learned "
            "could stand in its test now. Put them back and try it again, or start a new run."
        )


def _plan(run: Run, base_dir: Path, examples: Examples) -> Choice | None:
    """Writes down what the run was expected to take, to stand beside what it took, and how its steps are carried out.

    The plan is the one that was rehearsed, where there is one.
    """
    rehearsed = run.read_json("plan.json")
    try:
        planned = Plan.of(rehearsed) if rehearsed else plan_of(run.config, examples, config_of(base_dir), this_device())
    except UserError as error:
        run.log("message", str(error))
        return None
    said = f"{planned.sentence} {planned.basis}"
    run.log("message", f"The plan: {said}", plan=planned.values())
    if problem := planned.disk_problem(disk_free(run.path)):
        run.log("message", problem, "warning")
    run.log("message", planned.choice.sentence)
    return planned.choice


def _base_answers(
    run: Run, stage: str, encoding: Encoding, model: PreTrainedModel, test: list[Example]
) -> Answers | None:
    """What the base answers, asked once in all sittings of a run. None without test rows."""
    if not test:
        return None
    asked = _fingerprint(run.config, test)
    if saved := _saved_answers(run, asked):
        return saved
    with run.stage(stage, f"The base answers {len(test)} test rows, to compare with later."):
        answers = answer(
            model, encoding, test, run.config, lambda: run.stop_wanted, run.counting("answered", len(test))
        )
        if not run.stop_wanted:
            kept = {"asked": asked, "replies": answers.replies, "losses": answers.losses}
            run.write("base_answers.json", json.dumps(kept, ensure_ascii=False))
    return answers


def _saved_answers(run: Run, asked: str) -> Answers | None:
    """What the base answered in an earlier sitting of this run, if it was asked the same."""
    kept = run.read_json("base_answers.json")
    if not kept or kept.get("asked") != asked:
        return None
    return Answers([Reply(*reply) for reply in kept["replies"]], kept["losses"])


def _fingerprint(config: RunConfig, test: list[Example]) -> str:
    """Of a base and all that it is asked: the config of a run may be edited between two sittings."""
    base = [config.base_model, config.revision, *config.quantization.model_dump().values()]
    asked = [base, config.evaluation.max_new_tokens, [example.encoded for example in test]]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


def _report(
    run: Run, encoding: Encoding, model: PreTrainedModel, test: list[Example], before: Answers, name: str = "report"
) -> dict[str, Any]:
    """What the tuned model answers beside the base, written to the run as `name`.json and .md."""
    after = answer(model, encoding, test, run.config, lambda: run.stop_wanted, run.counting("answered", len(test)))
    if run.stop_wanted:
        raise Stopped
    report = compare(encoding, test, {"zero_shot": before, "tuned": after}, run.config)
    if name == report_name(None):
        report["kept"] = kept_sentence(run)
    run.write(f"{name}.json", json.dumps(report, ensure_ascii=False, indent=1))
    run.write(f"{name}.md", report_markdown(report))
    run.log("message", headline(report))
    return report


@contextmanager
def _once_more(run: Run, lease: Lease, what: str, stopped: str) -> Iterator[None]:
    """Holds a run that has ended, and the accelerator. A wish to stop is one for this work alone: Stopped then says `stopped`."""
    with run.held(), lease.held_by(f"{what} {run.run_id}"):
        run.forget_stop()
        try:
            yield
        except Stopped:
            raise Stopped(stopped) from None
        finally:
            run.forget_stop()


def merge_again(run: Run, lease: Lease) -> dict[str, Any]:
    """Merges a finished or stopped run, with proof. Returns the proof. Stopped when somebody wished that."""
    with _once_more(run, lease, "merging", "The merge was stopped. The adapter is safe; merge this run again."):
        base_dir = model_folder(run.config.base_model, run.config.revision)
        adapted = load_adapted(run, base_dir)
        examples = prepare(run.config, chat_encoding(run))
        return merge_and_prove(run, base_dir, adapted, examples)


def evaluate_again(run: Run, lease: Lease, step: int | None = None) -> dict[str, Any]:
    """The comparison once more, base and adapter in the precision they were trained in; with `step`, that checkpoint's
    adapter, whose report gets a file of its own. UserError without test rows; Stopped when somebody wished that."""
    with _once_more(run, lease, "evaluating", "The comparison was stopped."):
        adapter_dir = None if step is None else checkpoint_at(run, step)
        adapted = load_adapted(run, model_folder(run.config.base_model, run.config.revision), adapter_dir)
        encoding = chat_encoding(run)
        examples = prepare(run.config, encoding)
        _check_same_rows(run, examples)
        test = examples.test[: run.config.evaluation.limit]
        if not test:
            raise UserError("This run has no test rows to compare on: its split keeps none, or evaluation.limit is 0.")
        which = "The adapter" if step is None else f"The checkpoint of step {step}"
        run.log("message", f"{which} is compared with the base on {len(test)} test rows.")
        with adapted.disable_adapter():
            before = answer(adapted, encoding, test, run.config, lambda: run.stop_wanted)
        if run.stop_wanted:
            raise Stopped
        return _report(run, encoding, adapted, test, before, report_name(step))


def report_name(step: int | None) -> str:
    """The report of the run, or of the checkpoint of a step."""
    return "report" if step is None else f"report-step-{step}"


def summary(run: Run) -> dict[str, Any]:
    """What `train --json` prints."""
    saved = next((event.data for event in reversed(run.events()) if "train_loss" in event.data), {})
    report, proof = run.read_json("report.json"), run.read_json("proof.json")
    return {
        "run": run.run_id,
        "state": run.state,
        "path": str(run.path),
        "steps": saved.get("steps"),
        "train_loss": saved.get("train_loss"),
        "validation_loss": saved.get("validation_loss"),
        "report": report,
        "merged": str(run.merged_dir) if run.merged_dir.is_dir() else None,
        "proof": proof,
    }
