"""Checkpoints in use: listed, gone back to, chatted with, evaluated; and new runs that start from an adapter."""

import shutil
from pathlib import Path

import pytest

from ftui.__main__ import main
from ftui.background import BackgroundTrainer
from ftui.chat import Speaker, load_adapted, load_for_chat
from ftui.config import RunConfig
from ftui.device import Lease
from ftui.errors import UserError
from ftui.loop import carry_out, evaluate_again, summary
from ftui.runs import Run, RunStore
from ftui.train import checkpoint_at, checkpoints_of, rewind, with_start


@pytest.fixture
def cut_off(run_to_change) -> Run:
    """The finished run as if its process had been killed after the last checkpoint, at step 6 of 6."""
    lines = (run_to_change.path / "events.jsonl").read_text().splitlines()
    last = max(number for number, line in enumerate(lines) if '"type": "metrics"' in line)
    (run_to_change.path / "events.jsonl").write_text("\n".join(lines[: last + 1]) + "\n")
    shutil.rmtree(run_to_change.adapter_dir)
    shutil.rmtree(run_to_change.merged_dir)
    return Run(run_to_change.path)


def adapter(folder: Path) -> dict:
    from safetensors.torch import load_file

    return load_file(folder / "adapter_model.safetensors")


def test_checkpoints_are_listed_newest_first_with_what_was_measured_there(finished_run):
    newest, older = checkpoints_of(finished_run)
    assert (newest.step, older.step) == (6, 3)
    measured = {data["step"]: data["validation_loss"] for data in finished_run.metrics() if data["validation_loss"]}
    assert (newest.validation_loss, older.validation_loss) == (measured[6], measured[3])
    assert newest.bytes > 10_000 and newest.written >= older.written


def test_a_step_without_a_checkpoint_is_told_with_those_there_are(finished_run):
    with pytest.raises(UserError, match="no complete checkpoint of step 4. Complete ones: 3, 6"):
        checkpoint_at(finished_run, 4)


def test_a_run_goes_on_from_an_older_checkpoint_and_what_came_later_is_gone(cut_off):
    rewind(cut_off, 3)
    assert [point.step for point in checkpoints_of(cut_off)] == [3]
    assert max(data["step"] for data in cut_off.metrics()) == 3
    assert carry_out(cut_off, Lease()) == "done"
    assert [data["step"] for data in cut_off.metrics() if data["loss"] is not None] == [1, 2, 3, 4, 5, 6]


def test_nothing_of_what_came_after_an_older_checkpoint_stays_and_all_stays_at_the_newest(run_to_change):
    run_to_change.end("failed", "The disk is full.")
    rewind(run_to_change, 6)
    assert run_to_change.adapter_dir.is_dir() and run_to_change.read_json("report.json")
    rewind(run_to_change, 3)
    names = {path.name for path in run_to_change.path.iterdir()}
    assert not names & {"adapter", "merged", "report.json", "report.md", "proof.json", "README.md"}
    run_to_change.stop()
    carry_out(run_to_change, Lease())
    found = summary(run_to_change)
    assert (found["state"], found["report"], found["merged"]) == ("stopped", None, None)


def test_a_finished_run_is_not_taken_back(run_to_change):
    with pytest.raises(UserError, match="Start a new run from it"):
        rewind(run_to_change, 3)
    assert len(checkpoints_of(run_to_change)) == 2


def test_the_chat_asks_the_adapter_of_a_checkpoint_also_where_no_run_was_finished(cut_off, finished_run):
    import torch

    _, encoding = load_for_chat(Speaker(finished_run, "adapter"))
    ids = torch.tensor([encoding.prompt_ids([{"role": "user", "content": "A red lamp."}])])
    logits = []
    for step in (3, 6):
        model, own = load_for_chat(Speaker(cut_off, "adapter", checkpoint_at(cut_off, step)))
        assert own.prompt([{"role": "user", "content": "A."}]) == encoding.prompt([{"role": "user", "content": "A."}])
        with torch.no_grad():
            logits.append(model(ids).logits.float())
    assert (logits[0] - logits[1]).abs().max() > 0.1


def test_a_checkpoint_is_evaluated_and_the_report_of_the_run_stays(run_to_change):
    before = (run_to_change.path / "report.json").read_text()
    report = evaluate_again(run_to_change, Lease(), step=3)
    assert report["systems"]["tuned"]["loss"] != run_to_change.read_json("report.json")["systems"]["tuned"]["loss"]
    assert (run_to_change.path / "report.json").read_text() == before
    assert run_to_change.read_json("report-step-3.json") == report and run_to_change.state == "done"


def test_evaluating_in_the_background_tells_what_went_wrong_and_leaves_the_state(run_to_change):
    shutil.rmtree(run_to_change.adapter_dir)
    trainer = BackgroundTrainer(RunStore(run_to_change.path.parent), Lease())
    trainer.evaluate(run_to_change)
    trainer._thread.join(60)
    assert run_to_change.state == "done" and "has no adapter" in run_to_change.events()[-1].message
    with pytest.raises(UserError, match="no complete checkpoint"):
        trainer.evaluate(run_to_change, 5)


def test_a_stopped_run_is_merged_in_the_background_and_keeps_its_state(run_to_change):
    shutil.rmtree(run_to_change.merged_dir)
    run_to_change.end("stopped", "Stopped.")
    trainer = BackgroundTrainer(RunStore(run_to_change.path.parent), Lease())
    trainer.merge(run_to_change)
    trainer._thread.join(60)
    assert run_to_change.merged_dir.is_dir() and run_to_change.state == "stopped" and trainer.at_work is None
    shutil.rmtree(run_to_change.adapter_dir)
    trainer.merge(run_to_change)
    trainer._thread.join(60)
    assert run_to_change.state == "stopped" and "has no adapter" in run_to_change.events()[-1].message


@pytest.mark.parametrize(("act", "words"), [("evaluate", "comparison was stopped"), ("merge", "merge was stopped")])
def test_what_is_done_once_more_can_be_stopped_and_says_so_on_the_page_and_in_the_terminal(
    run_to_change, monkeypatch, capsys, act, words
):
    def stopped_while_loading(run, *arguments, **options):
        run.stop()
        return load_adapted(run, *arguments, **options)

    monkeypatch.setattr("ftui.loop.load_adapted", stopped_while_loading)
    trainer = BackgroundTrainer(RunStore(run_to_change.path.parent), Lease())
    getattr(trainer, act)(run_to_change)
    trainer._thread.join(60)
    assert words in run_to_change.events()[-1].message and run_to_change.state == "done"
    assert main([act, str(run_to_change.path)]) == 2 and words in capsys.readouterr().err
    assert run_to_change.merged_dir.is_dir() and not run_to_change.stop_wanted


# a new run from an adapter


def config_from(run: Run, **changes: object) -> RunConfig:
    """The config of `run`, learning next to nothing, so that what comes out is what went in."""
    values = run.config.model_dump(mode="json")
    values["training"] |= {"max_steps": 1, "learning_rate": 1e-12, "eval_steps": 1}
    return RunConfig.parse(values | changes)


@pytest.mark.parametrize("load_in_4bit", [False, True])
def test_a_new_run_starts_with_the_very_weights_of_the_adapter(run_to_change, load_in_4bit):
    store = RunStore(run_to_change.path.parent)
    quantization = {"load_in_4bit": load_in_4bit}
    config = with_start(config_from(run_to_change, adapter="last", quantization=quantization), store)
    assert config.adapter == run_to_change.run_id
    run = store.create(config)
    assert carry_out(run, Lease()) == "done", run.events()[-1].message
    source, result = adapter(run_to_change.adapter_dir), adapter(run.adapter_dir)
    assert source.keys() == result.keys()
    assert max(float((source[name].float() - result[name].float()).abs().max()) for name in source) < 1e-6
    assert any(config.adapter in event.message for event in run.events())
    assert config.adapter in (run.path / "README.md").read_text()


def test_a_checkpoint_or_a_folder_can_be_the_start(run_to_change, tmp_path):
    store = RunStore(run_to_change.path.parent)
    folder = shutil.copytree(run_to_change.adapter_dir, tmp_path / "elsewhere")
    for named in (f"{run_to_change.run_id}@3", str(folder)):
        assert with_start(config_from(run_to_change, adapter=named), store).adapter == named
    elsewhere = with_start(config_from(run_to_change, adapter=str(run_to_change.path)), RunStore(tmp_path / "other"))
    assert elsewhere.adapter == str(run_to_change.adapter_dir)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"lora": {"r": 4, "lora_alpha": 16}}, "it has r 8, this config r 4.*set lora.r to 8"),
        ({"base_model": "starter"}, "was trained on .*, this config names starter"),
        ({"adapter": "RUN@4"}, "no complete checkpoint of step 4"),
        ({"adapter": "RUN@x"}, "RUN@STEP"),
        ({"adapter": "no-such-run"}, "There is no run"),
    ],
)
def test_an_adapter_that_does_not_fit_is_told_before_a_run_is_made(run_to_change, changes, words):
    store = RunStore(run_to_change.path.parent)
    changes = {"adapter": run_to_change.run_id} | changes
    changes["adapter"] = changes["adapter"].replace("RUN", run_to_change.run_id)
    with pytest.raises(UserError, match=words):
        BackgroundTrainer(store, Lease()).start(config_from(run_to_change, **changes))
    assert len(store.list()) == 1


def test_weights_of_another_model_are_refused_although_their_rank_fits(run_to_change, tiny_family, tmp_path):
    folder = shutil.copytree(run_to_change.adapter_dir, tmp_path / "elsewhere")
    store = RunStore(tmp_path / "runs")
    run = store.create(
        with_start(config_from(run_to_change, adapter=str(folder), base_model=str(tiny_family("gpt2"))), store)
    )
    assert carry_out(run, Lease()) == "failed"
    assert "fit" in run.events()[-1].message and "fault in ftui" not in run.events()[-1].message


def test_weights_that_are_cut_are_told(run_to_change):
    config = run_to_change.config.model_copy(update={"adapter": run_to_change.run_id})
    weights = run_to_change.adapter_dir / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    run = RunStore(run_to_change.path.parent).create(config)
    assert carry_out(run, Lease()) == "failed"
    assert run.events()[-1].message == "adapter: adapter_model.safetensors in adapter cannot be read."


def test_pickled_weights_are_no_adapter(run_to_change, tmp_path):
    folder = shutil.copytree(run_to_change.adapter_dir, tmp_path / "elsewhere")
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(UserError):
        with_start(config_from(run_to_change, adapter=str(folder)), RunStore(tmp_path / "runs"))
