"""The whole loop on a tiny model: what a finished run leaves, and what a run leaves that cannot be finished."""

import errno
import json
import math
import shutil
from collections import namedtuple

import pytest
import yaml

import ftui.loop
from ftui.config import RunConfig
from ftui.device import Lease
from ftui.errors import UserError
from ftui.failures import explain_failure, first_line
from ftui.loop import carry_out, evaluate_again, merge_again, summary
from ftui.runs import Run, Stopped
from tests import tiny

REPORT = {"verdict", "metric", "rows", "systems", "difference", "prompt_tokens", "examples", "forgetting"}
PROOF = {"max_abs_logit_difference", "top1_agreement", "validation_loss_adapter", "validation_loss_merged"}
SUMMARY = {"run", "state", "path", "steps", "train_loss", "validation_loss", "report", "merged", "proof"}


@pytest.fixture
def carried_out(values, store):
    """A run with this config, changed in places, carried out."""

    def carried(before=lambda run: None, **changes: dict) -> Run:
        changed = values | {key: {**values.get(key, {}), **change} for key, change in changes.items()}
        run = store.create(RunConfig.parse(changed))
        before(run)
        state = carry_out(run, Lease())
        assert state == run.state and not run.is_held
        return run

    return carried


def states(run: Run) -> list[str]:
    found = [event.data["state"] for event in run.events() if event.type == "state"]
    return [state for state, before in zip(found, [None, *found], strict=False) if state != before]


def train_losses(run: Run) -> list[float]:
    return [row["loss"] for row in run.metrics() if row["loss"] is not None]


def check_finished(run: Run) -> None:
    assert states(run) == ["queued", "preparing", "training", "evaluating", "merging", "done"]
    names = {path.name for path in run.path.iterdir()}
    files = {"config.yaml", "events.jsonl", "results.csv", "split.json", "report.json", "report.md", "README.md"}
    assert files | {"adapter", "merged", "checkpoints"} <= names and "stop" not in names
    assert not [name for name in names if name.startswith(".")]
    report, proof = run.read_json("report.json"), run.read_json("proof.json")
    assert set(report) >= REPORT and report["rows"] == 6 and set(report["systems"]) == {"zero_shot", "tuned"}
    assert set(report["difference"]) == {"mean", "low", "high"}
    assert all(set(row) == {"row", "prompt", "expected", "zero_shot", "tuned"} for row in report["examples"])
    assert set(proof) >= PROOF and proof["top1_agreement"] >= 0.9
    assert proof["validation_loss_merged"] == pytest.approx(proof["validation_loss_adapter"], rel=0.01)
    split = run.read_json("split.json")
    assert [len(split[part]) for part in ("train", "validation", "test")] == [20, 4, 6] and len(split["sha256"]) == 64
    assert sorted(row for part in ("train", "validation", "test") for row in split[part]) == list(range(30))
    assert {row["row"] for row in report["examples"]} == set(split["test"])
    losses = train_losses(run)
    assert len(losses) == 6 and losses[-1] < losses[0]
    told = summary(run)
    assert set(told) >= SUMMARY and told["state"] == "done" and told["steps"] == 6
    assert told["train_loss"] == losses[-1] and told["report"] == report and told["proof"] == proof
    card = (run.path / "README.md").read_text()
    assert "20 training rows" in card and "6 steps" in card and "| tuned |" in card and str(run.path.parent) not in card


def test_a_16_bit_run_leaves_everything_that_a_run_promises(finished_run):
    check_finished(finished_run)
    assert finished_run.read_json("proof.json")["base_weights"] == "original"


def test_a_4_bit_run_leaves_everything_that_a_run_promises(carried_out):
    run = carried_out(quantization={"load_in_4bit": True})
    check_finished(run)
    assert any("4-bit nf4" in event.message for event in run.events())


def test_the_model_card_names_no_folder_of_this_machine(finished_run):
    assert finished_run.config.base_model not in (finished_run.path / "README.md").read_text()


@pytest.mark.true
def test_the_same_4_bit_config_run_twice_gives_the_same_losses(carried_out):
    first, second = (carried_out(quantization={"load_in_4bit": True}) for _ in range(2))
    assert train_losses(first) == train_losses(second)
    assert first.read_json("split.json") == second.read_json("split.json")
    assert first.read_json("proof.json") == second.read_json("proof.json")


@pytest.mark.true
def test_a_config_read_back_from_its_run_repeats_the_run(finished_run, store):
    again = store.create(RunConfig.from_yaml((finished_run.path / "config.yaml").read_text()))
    assert carry_out(again, Lease()) == "done"
    assert train_losses(again) == train_losses(finished_run)


def test_without_test_rows_there_is_no_report_and_the_run_is_done_all_the_same(carried_out):
    run = carried_out(evaluation={"limit": 0})
    assert run.state == "done" and run.read_json("report.json") is None and run.read_json("proof.json")
    assert run.events()[-1].message.startswith("Done: trained and merged. Nothing was compared")
    assert not [event for event in run.events() if " 0 rows" in event.message]


def test_plain_text_goes_through_as_well(values, store):
    lines = [{"note": row["text"]} for row in tiny.rows()]
    tiny.write_rows(store.folder.parent / "rows.jsonl", lines)
    run = store.create(RunConfig.parse(values | {"template": {"text": "note"}}))
    assert carry_out(run, Lease()) == "done", run.events()[-1].message
    assert run.read_json("report.json")["metric"] == "loss"


# what cannot be finished


def check_failed(run: Run, *words: str) -> None:
    last = run.events()[-1]
    assert run.state == "failed" and last.level == "error"
    assert all(word in last.message for word in words), last.message
    assert "Traceback" not in last.message and str(run.path.parents[1]) not in last.message
    assert last.data["trace"] == "", "a mistake of the person has no stack trace"


def test_a_column_that_is_missing_fails_in_a_sentence(carried_out):
    check_failed(carried_out(template={"prompt": "{{txet}}"}), "txet", "text")


@pytest.mark.parametrize("text", ["", "\n\n", "not json\n"])
def test_a_file_without_rows_fails_in_a_sentence(carried_out, text):
    run = carried_out(before=lambda run: (run.path.parents[1] / "rows.jsonl").write_text(text))
    check_failed(run, "rows.jsonl")


def test_rows_of_which_none_can_be_used_fail_with_the_first_reason(carried_out):
    run = carried_out(training={"max_length": 8})
    check_failed(run, "No row is left to train on", "max_length")


def test_a_model_that_is_not_there_fails_in_a_sentence(values, store):
    run = store.create(RunConfig.parse(values | {"base_model": "no such model"}))
    carry_out(run, Lease())
    check_failed(run, "no such model")


def test_an_encoder_fails_before_anything_is_loaded(values, store, tiny_family):
    run = store.create(RunConfig.parse(values | {"base_model": str(tiny_family("bert"))}))
    carry_out(run, Lease())
    check_failed(run, "not a causal language model")
    assert states(run) == ["queued", "preparing", "failed"]


def test_a_loss_that_is_no_number_fails_with_what_to_do_and_no_adapter_is_left(values, store, tiny_model, tmp_path):
    import torch
    from safetensors.torch import load_file, save_file

    poisoned = shutil.copytree(tiny_model, tmp_path / "poisoned")
    weights = load_file(tiny_model / "model.safetensors")
    weights["model.norm.weight"] = torch.full_like(weights["model.norm.weight"], float("nan"))
    save_file(weights, poisoned / "model.safetensors", metadata={"format": "pt"})
    run = store.create(RunConfig.parse(values | {"base_model": str(poisoned)}))
    carry_out(run, Lease())
    check_failed(run, "not a number at step 1", "A tenth of the learning rate")
    assert not run.adapter_dir.exists() and not run.merged_dir.exists()


@pytest.mark.true
def test_the_highest_learning_rate_spoils_the_model_and_the_loop_still_ends_well(carried_out):
    run = carried_out(
        training={"learning_rate": 1.0, "max_grad_norm": 0, "warmup_steps": 0, "lr_scheduler_type": "constant"},
        lora={"r": 1, "lora_alpha": 4096},
    )
    assert run.state in ("done", "failed") and all(math.isfinite(loss) for loss in train_losses(run))


def stop_when(monkeypatch, wanted) -> None:
    """Somebody wishes a stop as soon as an event is logged for which `wanted(type, data)` holds."""
    log = Run.log

    def log_and_stop(run: Run, type: str, *args: object, **data: object) -> None:
        log(run, type, *args, **data)
        if wanted(type, data):
            run.stop()

    monkeypatch.setattr(Run, "log", log_and_stop)


def test_a_stop_before_training_ends_as_stopped_and_forgets_the_wish(carried_out, monkeypatch):
    stop_when(monkeypatch, lambda type, data: data.get("state") == "preparing")
    run = carried_out()
    assert run.state == "stopped" and "nothing was learned" in run.events()[-1].message
    assert not run.adapter_dir.exists() and not run.stop_wanted and train_losses(run) == []


def test_a_stop_wished_while_a_run_waits_is_kept(carried_out):
    assert carried_out(before=lambda run: run.stop()).state == "stopped"


def test_a_stop_while_training_keeps_the_adapter_and_says_how_far_it_came(carried_out, monkeypatch):
    stop_when(monkeypatch, lambda type, data: type == "metrics" and data["step"] == 2)
    run = carried_out()
    assert run.state == "stopped" and "Stopped after" in run.events()[-1].message
    assert run.adapter_dir.is_dir() and not run.merged_dir.exists() and not run.stop_wanted
    assert 2 <= summary(run)["steps"] <= 3


@pytest.mark.parametrize("state", ["evaluating", "merging"])
def test_a_stop_after_training_does_not_say_that_nothing_was_learned(carried_out, monkeypatch, state):
    stop_when(monkeypatch, lambda type, data: data.get("state") == state)
    run = carried_out()
    assert run.adapter_dir.is_dir() and not run.stop_wanted
    assert run.state == "stopped" and not run.merged_dir.exists()
    assert "nothing was learned" not in run.events()[-1].message


@pytest.mark.true
def test_a_stopped_run_goes_on_and_ends_with_the_losses_of_one_that_was_never_stopped(
    carried_out, finished_run, monkeypatch
):
    with monkeypatch.context() as patched:
        stop_when(patched, lambda type, data: type == "metrics" and data["step"] == 4)
        run = carried_out()
    assert run.state == "stopped"
    assert carry_out(run, Lease()) == "done", run.events()[-1].message
    assert train_losses(run) == pytest.approx(train_losses(finished_run), rel=1e-3)
    assert run.read_json("report.json")["rows"] == 6 and run.merged_dir.is_dir()


@pytest.fixture
def stopped_at_4(carried_out, monkeypatch) -> Run:
    with monkeypatch.context() as patched:
        stop_when(patched, lambda type, data: type == "metrics" and data["step"] == 4)
        return carried_out()


def edited(run: Run, change) -> Run:
    """The run as somebody left it who opened its config in an editor."""
    values = yaml.safe_load((run.path / "config.yaml").read_text())
    change(values)
    run.write("config.yaml", yaml.safe_dump(values))
    return Run(run.path)


def test_a_stopped_run_names_no_validation_loss_that_is_not_of_its_adapter(stopped_at_4):
    assert max(data["step"] for data in stopped_at_4.metrics() if data["validation_loss"] is not None) == 3
    assert summary(stopped_at_4)["steps"] == 4 and summary(stopped_at_4)["validation_loss"] is None


def test_a_run_does_not_go_on_with_other_rows_and_does_with_its_own(stopped_at_4, tmp_path):
    rows = tmp_path / "rows.jsonl"
    kept = rows.read_text()
    rows.write_text("".join(reversed(kept.splitlines(keepends=True))))
    assert carry_out(stopped_at_4, Lease()) == "failed"
    assert "are not those that it began with" in stopped_at_4.events()[-1].message
    rows.write_text(kept)
    assert carry_out(stopped_at_4, Lease()) == "done"


def test_what_came_of_an_adapter_goes_when_another_one_takes_its_place(stopped_at_4, monkeypatch):
    merge_again(stopped_at_4, Lease())
    evaluate_again(stopped_at_4, Lease())
    assert summary(stopped_at_4)["report"] and summary(stopped_at_4)["proof"] and stopped_at_4.merged_dir.is_dir()
    with monkeypatch.context() as patched:
        stop_when(patched, lambda type, data: data.get("state") == "training")
        assert carry_out(stopped_at_4, Lease()) == "stopped"
    assert summary(stopped_at_4)["report"] and summary(stopped_at_4)["merged"], "the adapter is the one that was merged"
    stop_when(monkeypatch, lambda type, data: type == "metrics" and data["step"] == 5)
    assert carry_out(stopped_at_4, Lease()) == "stopped"
    found = summary(stopped_at_4)
    assert (found["report"], found["proof"], found["merged"]) == (None, None, None)


def test_the_base_is_asked_again_where_what_it_answered_was_something_else(stopped_at_4):
    run = edited(stopped_at_4, lambda values: values["evaluation"].update(limit=3))
    assert carry_out(run, Lease()) == "done", run.events()[-1].message
    report = run.read_json("report.json")
    assert report["rows"] == 3 and len(report["examples"]) == 3


@pytest.mark.parametrize(
    "change",
    [
        {"r": 4},
        *(
            pytest.param(change, marks=pytest.mark.true)
            for change in (
                {"lora_alpha": 32},
                {"use_dora": True},
                {"target_modules": ["q_proj"]},
                {"init_lora_weights": "olora"},
            )
        ),
    ],
)
def test_an_adapter_that_was_set_otherwise_since_it_was_saved_is_told(stopped_at_4, change):
    run = edited(stopped_at_4, lambda values: values["lora"].update(change))
    assert carry_out(run, Lease()) == "failed"
    assert "were trained with other settings: lora." in run.events()[-1].message


def test_a_finished_run_is_not_trained_again(run_to_change):
    with pytest.raises(UserError, match="is done"):
        carry_out(run_to_change, Lease())
    assert run_to_change.state == "done"


@pytest.mark.true
def test_a_full_disk_at_the_merge_keeps_the_adapter_and_can_be_merged_later(carried_out, monkeypatch):
    usage = shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda path: namedtuple("Usage", "total used free")(1, 1, 1000))
    run = carried_out()
    check_failed(run, "The adapter is safe", "merge this run again")
    assert run.adapter_dir.is_dir() and not run.merged_dir.exists()
    monkeypatch.setattr(shutil, "disk_usage", usage)
    assert merge_again(run, Lease())["top1_agreement"] >= 0.9 and run.merged_dir.is_dir()


def test_a_run_that_another_works_on_is_left_alone(config, store):
    run = store.create(config)
    with run.held():
        run.log("state", "Training.", state="training")
        with pytest.raises(UserError, match="worked on by another"):
            carry_out(Run(run.path), Lease())
        assert run.state == "training"


def test_what_goes_wrong_is_told_with_what_to_do():
    assert explain_failure(UserError("Say it.")) == "Say it."
    assert "disk is full" in explain_failure(OSError(errno.ENOSPC, "No space left on device"))
    assert "Rehearse the run" in explain_failure(MemoryError())
    assert "fault in ftui" in explain_failure(KeyError("x")) and "KeyError" in explain_failure(KeyError("x"))


def test_what_a_library_says_of_a_failure_is_told_in_a_line_and_its_silence_by_its_kind():
    assert first_line(ValueError("\nOne.\nTwo.")) == "One."
    assert first_line(KeyError()) == "KeyError" and first_line(OSError(" \n")) == "OSError"
    assert first_line(OSError("x" * 500)) == "x" * 200


def test_memory_that_runs_out_on_a_cpu_is_told_as_such():
    import torch

    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert "Memory ran out" in explain_failure(caught.value)


def test_a_fault_is_told_in_a_sentence_and_its_trace_is_in_the_log(carried_out, monkeypatch):
    def fault(*args, **named):
        raise KeyError("a bug")

    monkeypatch.setattr(ftui.loop, "prepare", fault)
    last = carried_out().events()[-1]
    assert "fault in ftui" in last.message and "KeyError: 'a bug'" in last.data["trace"]


# again


def test_a_finished_run_is_evaluated_again_with_the_same_result(run_to_change):
    before = run_to_change.read_json("report.json")
    report = evaluate_again(run_to_change, Lease())
    for name in ("verdict", "metric", "rows", "difference", "examples"):
        assert report[name] == before[name]
    assert run_to_change.read_json("report.json") == json.loads(json.dumps(report))


def test_a_run_is_not_compared_again_on_rows_that_it_may_have_learned(stopped_at_4, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text(rows.read_text() + rows.read_text().splitlines(keepends=True)[0])
    with pytest.raises(UserError, match="are not those that it began with"):
        evaluate_again(stopped_at_4, Lease())


@pytest.mark.parametrize("where", ["load_model", "prove"])
def test_a_merge_that_is_not_proven_takes_no_place_and_leaves_the_one_before_with_its_proof(
    run_to_change, monkeypatch, where
):
    """However it ends: by a stop, a failure, or with the process, of which only the hidden folder is left."""
    merged = run_to_change.merged_dir

    def kept():
        return run_to_change.read_json("proof.json"), merged.stat().st_ino if merged.exists() else None

    def dying(*arguments, **options):
        seen.append(kept())  # a process that is killed here leaves them together
        raise Stopped

    before, seen = kept(), []
    monkeypatch.setattr(f"ftui.proof.{where}", dying)
    with pytest.raises(Stopped):
        merge_again(run_to_change, Lease())
    shutil.rmtree(merged)
    with pytest.raises(Stopped):
        merge_again(run_to_change, Lease())
    assert seen == [before, (before[0], None)]
    assert not merged.exists() and not list(run_to_change.path.glob(".merged-*"))


def test_a_finished_run_is_merged_again_with_the_same_proof(run_to_change):
    before = run_to_change.read_json("proof.json")
    shutil.rmtree(run_to_change.merged_dir)
    proof = merge_again(run_to_change, Lease())
    assert proof.keys() == before.keys() and proof["tokens"] == before["tokens"] and proof["top1_agreement"] >= 0.9
    assert proof["validation_loss_merged"] == pytest.approx(before["validation_loss_merged"], rel=1e-6)
    assert run_to_change.merged_dir.is_dir() and run_to_change.state == "done"


@pytest.mark.parametrize("again", [merge_again, evaluate_again])
def test_a_stop_wished_after_the_end_does_not_spoil_the_next_work(run_to_change, again):
    run_to_change.stop()
    assert again(run_to_change, Lease())["rows"] >= 4
    assert not run_to_change.stop_wanted


def test_evaluating_a_run_without_test_rows_is_told(config, store):
    none = config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"limit": 0})})
    run = store.create(none)
    carry_out(run, Lease())
    with pytest.raises(UserError, match="no test rows"):
        evaluate_again(run, Lease())


@pytest.mark.parametrize("again", [merge_again, evaluate_again])
def test_a_run_that_was_never_trained_can_be_neither_merged_nor_evaluated(config, store, again):
    with pytest.raises(UserError, match="no adapter"):
        again(store.create(config), Lease())


@pytest.mark.true
def test_two_works_on_one_run_exclude_each_other(run_to_change):
    with run_to_change.held(), pytest.raises(UserError, match="worked on"):
        merge_again(Run(run_to_change.path), Lease())


@pytest.mark.true
def test_the_starter_learns_in_4_bit_and_its_whole_loop_ends_with_a_proof(starter, tmp_path, store):
    values = tiny.values(starter, tmp_path) | {"quantization": {"load_in_4bit": True}}
    values["training"] |= {"max_steps": 8, "eval_steps": 8, "learning_rate": 1e-3, "warmup_steps": 0}
    run = store.create(RunConfig.parse(values))
    assert carry_out(run, Lease()) == "done", run.events()[-1].message
    losses = train_losses(run)
    assert losses[-1] < losses[0] / 3
    report, proof = run.read_json("report.json"), run.read_json("proof.json")
    assert report["systems"]["tuned"]["loss"] < report["systems"]["zero_shot"]["loss"] / 3
    assert proof["top1_agreement"] >= 0.9
    tried = [event.data["proof"]["validation_loss_merged"] for event in run.events() if "proof" in event.data]
    assert proof["validation_loss_merged"] == min(tried) < proof["validation_loss_adapter"] + 0.05


def test_a_run_whose_merge_failed_its_check_ends_with_that(carried_out, monkeypatch):
    monkeypatch.setattr("ftui.proof.LEAST_AGREEMENT", 1.1)
    run = carried_out(quantization={"load_in_4bit": False}, training={"max_steps": 1})
    last = run.events()[-1]
    assert last.level == "error" and last.message.startswith("The merge failed its check")
