"""The list of runs: what it says of each, that it is quick, and what becomes of runs that are thrown away."""

import json
import shutil
import time

import gradio as gr
import pytest

from ftui.background import BackgroundTrainer
from ftui.config import RunConfig
from ftui.device import Lease
from ftui.errors import UserError
from ftui.history import History, line_of
from ftui.loop import carry_out
from ftui.runs import TAIL, Run, RunStore, folder_size
from ftui.ui.language import Voice
from ftui.ui.runs_tab.browsing import Browsing
from ftui.ui.runs_tab.detail import Detail
from ftui.ui.runs_tab.listing import Listing
from ftui.ui.runs_tab.shelf import Asked, Shelf
from ftui.ui.runs_table import matching


@pytest.fixture
def run(store, config) -> Run:
    return store.create(config)


def measure(run: Run, steps: int) -> None:
    for step in range(1, steps + 1):
        run.log("metrics", step=step, steps=steps, loss=3 / step, validation_loss=2 / step if step % 5 == 0 else None)


def test_a_line_says_what_a_finished_run_is(finished_run):
    line = line_of(finished_run)
    assert (line.state, line.data, line.step, line.steps) == ("done", "rows.jsonl", 6, 6)
    assert line.verdict == "too few rows" and line.bytes == folder_size(finished_run.path) > 100_000
    assert 0 < line.validation_loss < 10 and line.created[:4] == finished_run.run_id[:4]


def test_a_run_that_was_taken_back_shows_the_step_it_goes_on_from(run):
    measure(run, 10)
    run.log("resumed", step=5)
    assert (line_of(run).step, line_of(run).validation_loss) == (5, 2 / 5)


def test_a_run_whose_config_cannot_be_read_does_not_hide_the_others(run, store, config):
    store.create(config)
    for broken in (b"base_model: [", b"\x00\xff\xfe", b""):
        (run.path / "config.yaml").write_bytes(broken)
        (run.path / "report.json").write_text("[1, 2]")
        assert "its config cannot be read" in {line.base_model for line in History(RunStore(store.folder)).lines()}
        with pytest.raises(UserError, match="The config of run"):
            assert Run(run.path).config
    assert len(History(store).lines()) == 2


def test_a_state_that_changes_without_a_word_is_seen(run, store):
    history = History(store)
    run.log("state", "Training.", state="training")
    with Run(run.path).held():
        assert [line.state for line in history.lines()] == ["training"]
    assert [line.state for line in history.lines()] == ["interrupted"]


def test_the_end_of_a_long_run_tells_its_state_without_the_beginning(run):
    run.log("state", "Training.", state="training")
    measure(run, 2000)
    run.end("done", "Done.")
    assert (run.path / "events.jsonl").stat().st_size > 10 * TAIL
    reopened = Run(run.path)
    assert reopened.written_state == "done" and not reopened._events, "the whole file was read"


def test_a_state_further_back_than_the_end_of_the_file_is_found(run):
    run.log("state", "Training.", state="training")
    measure(run, 2000)
    assert Run(run.path).written_state == "training"


def test_of_many_runs_none_is_read_again_once_it_is_known(store, config, monkeypatch):
    for number in range(200):
        run = store.create(config)
        run.log("state", "Training.", state="training")
        line = json.dumps(
            run.events()[-1]._replace(type="metrics", data={"step": 1, "steps": 2, "loss": 1.0})._asdict()
        )
        with (run.path / "events.jsonl").open("a") as file:
            file.write(f"{line}\n" * 500)
        run.end("done", f"Done {number}.")
    history = History(RunStore(store.folder))
    lines = history.lines()
    monkeypatch.setattr(Run, "_read_tail", None)
    assert history.lines() == lines and len(lines) == 200


def test_every_searched_word_must_occur_and_a_group_shows_its_states_only(run, store, config):
    store.create(config)
    run.end("failed", "No.")
    lines = History(store).lines()
    assert [line.run for line in matching(lines, "early", "")] == [run.run_id]
    assert len(matching(lines, "all", "ROWS queued")) == 1 and not matching(lines, "all", "rows absent")
    assert [line.state for line in matching(lines, "work", "")] == ["queued"]


# the trash


def test_a_deleted_run_goes_to_the_trash_and_comes_back_as_it_was(run, store):
    run.end("done", "Done.")
    store.trash(run)
    assert store.list() == [] and [found.run_id for found in store.trashed()] == [run.run_id]
    with pytest.raises(UserError, match="There is no run"):
        store.open(run.run_id)
    assert store.restore(run.run_id).state == "done" and store.trashed() == []


def test_a_run_whose_name_lies_in_the_trash_already_is_deleted_and_restored_beside_it(run, store, tmp_path):
    run.end("done", "Done.")
    copy = shutil.copytree(run.path, tmp_path / "copy")
    store.trash(run)
    shutil.copytree(copy, run.path)
    store.trash(store.open(run.run_id))
    assert [found.run_id for found in store.trashed()] == [f"{run.run_id}-2", run.run_id]
    shutil.copytree(copy, run.path)
    assert store.restore(run.run_id).run_id == f"{run.run_id}-2" and len(store.list()) == 2


def test_a_run_that_is_gone_or_cannot_be_moved_is_told(run, store):
    store.trash_dir.write_text("no folder")
    with pytest.raises(UserError, match="cannot be moved to .trash: File exists"):
        store.trash(run)
    shutil.rmtree(run.path)
    store.trash_dir.unlink()
    with pytest.raises(UserError, match="cannot be moved to .trash: No such file"):
        store.trash(run)


def test_a_run_at_work_is_not_deleted(run, store):
    with Run(run.path).held(), pytest.raises(UserError, match="at work"):
        store.trash(run)
    assert store.list() == [run]


def test_asking_a_deleted_run_whether_somebody_works_on_it_does_not_bring_its_folder_back(run, store):
    store.trash(run)
    assert not run.is_held and run.state == "queued" and not run.path.exists()


def test_emptying_the_trash_says_how_much_room_that_made(run, store):
    (run.path / "big").write_bytes(b"x" * 1000)
    size = folder_size(run.path)
    store.trash(run)
    assert store.empty_trash() >= size and store.trashed() == [] and store.empty_trash() == 0


def test_what_comes_to_the_trash_while_it_is_emptied_stays_and_nothing_goes_where_a_copy_could_not_be_deleted(
    config, store
):
    thrown, late = store.create(config), store.create(config)
    store.trash(thrown)

    def unreachable(names: set[str]) -> None:
        raise UserError("The Hub cannot be reached.")

    with pytest.raises(UserError, match="cannot be reached"):
        store.empty_trash(unreachable)
    assert [run.run_id for run in store.trashed()] == [thrown.run_id]
    store.empty_trash(lambda names: store.trash(late))
    assert [run.run_id for run in store.trashed()] == [late.run_id]


@pytest.mark.parametrize("name", ["nothing", "../runs", "", "."])
def test_only_what_lies_in_the_trash_can_be_restored(run, store, name):
    with pytest.raises(UserError, match="in the trash"):
        store.restore(name)


def test_a_run_that_another_process_deleted_is_gone_here_too(run, store):
    store.list()
    RunStore(store.folder).trash(Run(run.path))
    assert store.list() == []
    with pytest.raises(UserError, match="There is no run"):
        store.open(run.run_id)


# discarding


def test_a_discarded_run_ends_in_the_trash_and_one_that_waits_never_begins(config, store):
    trainer = BackgroundTrainer(store, Lease())
    first, second = trainer.queue(config), trainer.queue(config)
    trainer.discard(second)
    trainer.discard(first)
    for _ in range(1200):
        if len(store.trashed()) == 2:
            break
        time.sleep(0.05)
    assert {run.run_id for run in store.trashed()} == {first.run_id, second.run_id} and store.list() == []
    thrown = next(run for run in store.trashed() if run.run_id == first.run_id)
    assert thrown.state == "stopped" and "thrown away" in thrown.events()[-1].message


def test_a_wish_to_throw_away_is_kept_through_the_shutdown_that_follows_it(run):
    run.stop("discard")
    run.stop("shutdown")
    run.end("stopped", "Stopped.")
    assert run.discarded


def test_what_the_app_did_not_come_to_throw_away_is_thrown_away_at_its_next_start_and_not_once_it_is_restored(
    config, store
):
    ended, killed = store.create(config), store.create(config)
    for run in (ended, killed):
        run.log("state", "Learning.", state="training")
        run.stop("discard")
    ended.end("stopped", "Stopped and thrown away; it lies in the trash.")
    trainer = BackgroundTrainer(store, Lease())
    trainer.take_back()
    assert store.list() == [] and {run.run_id for run in store.trashed()} == {ended.run_id, killed.run_id}
    for run in store.trashed():
        trainer.restore(run)
    trainer.take_back()
    assert [run.state for run in store.list()] == ["interrupted", "stopped"]
    assert store.open(ended.run_id).events()[-1].message == "Brought back from the trash."


@pytest.mark.true
def test_a_run_that_is_thrown_away_while_its_last_copy_is_made_or_it_is_compared_goes_to_the_trash(
    config, store, monkeypatch
):
    trainer = BackgroundTrainer(store, Lease())

    def at_its_end(run, *arguments, **options):
        run.end("done", "Done.")
        trainer.discard(run)

    monkeypatch.setattr("ftui.loop.carry_out", at_its_end)
    monkeypatch.setattr("ftui.loop.evaluate_again", at_its_end)
    first = trainer.start(config)
    trainer._thread.join(60)
    second = store.create(config)
    trainer.evaluate(second)
    trainer._thread.join(60)
    assert {run.run_id for run in store.trashed()} == {first.run_id, second.run_id} and store.list() == []
    assert not any(run.stop_wanted for run in store.trashed())


def test_nothing_begins_while_a_terminal_compares_or_merges_a_run_that_has_ended(config, store, run):
    run.end("done", "Done.")
    trainer = BackgroundTrainer(store, Lease())
    with Run(run.path).held():
        with pytest.raises(UserError, match="at work in another process"):
            trainer.start(config)
        assert trainer.queue(config).state == "queued" and trainer.rests


def test_a_thread_that_comes_to_its_end_leaves_the_run_alone_that_was_started_meanwhile(config, store, monkeypatch):
    trainer, carried_out = BackgroundTrainer(store, Lease()), []
    first, second = store.create(config), store.create(config)
    monkeypatch.setattr("ftui.loop.carry_out", lambda run, *arguments, **options: carried_out.append(run))

    class Door:
        """The lock that the thread passes after its work: once it has let go of it, a click starts another run."""

        def __enter__(self):
            return lock.__enter__()

        def __exit__(self, *error):
            lock.__exit__(*error)
            if carried_out == [first]:
                trainer._run = second

    lock, trainer._changing = trainer._changing, Door()
    trainer._run = first
    trainer._work(first, trainer._carry_out)
    assert carried_out == [first]


def test_a_thread_that_finds_its_run_taken_writes_nothing_into_it(config, store):
    run = store.create(config)
    trainer = BackgroundTrainer(store, Lease())
    with Run(run.path).held():
        run.log("state", "Learning.", state="training")
        trainer._carry_out(run)
        assert run.state == "training" and len(run.events()) == 2


def test_a_run_that_ends_before_it_notices_is_thrown_away_all_the_same(run):
    run.stop("discard")
    run.end("done", "Done.")
    assert run.discarded and not run.stop_wanted


def test_a_stopped_run_is_not_thrown_away(run):
    run.stop()
    assert carry_out(run, Lease()) == "stopped" and not run.discarded


# the page


def view(store: RunStore, chosen: str = "", group: str = "all", seen: str = "", ticked: tuple = ()) -> list:
    with gr.Blocks():
        browsing = Browsing(Shelf(store), Listing(), Detail(BackgroundTrainer(store, Lease())))
    return browsing.show(seen, Asked(chosen, list(ticked), group, ""), Voice(None))


def test_a_page_that_looks_at_a_run_that_was_deleted_shows_another_without_an_error(run, store, config):
    other = store.create(config)
    assert run.run_id in view(store, run.run_id)[7]
    store.trash(run)
    shown = view(store, run.run_id, ticked=(run.run_id, other.run_id))
    assert other.run_id in shown[7] and run.run_id not in shown[1]
    store.trash(other)
    assert "No run yet" in view(store, other.run_id)[1]


def test_nothing_is_sent_again_that_the_page_has(run, store):
    first = view(store)
    again = view(store, seen=first[0])
    assert len(again) == len(first) and again[0] == first[0]
    assert all(value.get("__type__") == "update" and len(value) == 1 for value in again[1:])
    run.log("message", "More.")
    assert "More." in view(store, seen=first[0])[13]


def test_the_run_at_work_is_shown_first_and_a_chosen_one_before_it(run, store, config):
    store.create(config).end("done", "Done.")
    with run.held():
        assert Shelf(store).chosen(Asked("", [], "all", "")).run_id == run.run_id
    newest = store.list()[0].run_id
    assert Shelf(store).chosen(Asked(newest, [], "all", "")).run_id == newest


def test_what_a_run_is_named_cannot_become_html(values, store):
    values["dataset"]["path"] = "<img src=x onerror=alert(1)>.jsonl"
    values["base_model"] = "<script>1</script>"
    run = store.create(RunConfig.parse(values))
    run.end("failed", "<b>no</b>")
    shown = "".join(part for part in view(store, ticked=(run.run_id,)) if isinstance(part, str))
    assert "<img" not in shown.replace("base_model", "") or "path: <img" in shown
    assert "<script>1" not in view(store)[1] and "<b>no" not in view(store)[7] and "<img" not in view(store)[1]
