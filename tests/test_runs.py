"""Run and RunStore: what the folder promises when processes die, files are cut, and two want the same run."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ftui.config import RunConfig
from ftui.errors import UserError
from ftui.runs import Run, RunStore, Stopped, write_whole

HOME = Path(__file__).parents[1]
HOLDER = """
import sys, time
from pathlib import Path
from ftui.runs import Run
run = Run(Path(sys.argv[1]))
with run.held():
    run.log("state", "Training.", state="training")
    print("holding", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def run(store) -> Run:
    config = {"base_model": "starter", "dataset": {"path": "data/My Rows.jsonl"}, "template": {"text": "note"}}
    return store.create(RunConfig.parse(config))


@pytest.fixture
def holder(run):
    """Another process that holds the run and has written a working state."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(run.path)], stdout=subprocess.PIPE, text=True, cwd=HOME
    )
    assert process.stdout.readline() == "holding\n"
    yield process
    process.kill()
    process.wait()


# the store


def test_a_new_run_is_a_folder_that_names_its_data_and_holds_its_whole_config(run, store):
    assert run.run_id.split("-")[2:4] == ["my", "rows"] and run.path.parent == store.folder
    assert RunConfig.from_yaml((run.path / "config.yaml").read_text()) == run.config
    assert [event.message for event in run.events()] == ["Waiting to start."] and run.written_state == "queued"


def test_two_runs_made_in_the_same_second_have_folders_of_their_own(store, run):
    others = {store.create(run.config).run_id for _ in range(5)}
    assert len(others) == 5 and len(store.list()) == 6


def test_runs_are_listed_newest_first_and_strange_folders_are_passed_over(store, run):
    for name in ("20200101-000000-old-0000", ".hidden", "with blank", "no-config"):
        (store.folder / name).mkdir()
        if name != "no-config":
            (store.folder / name / "config.yaml").write_text((run.path / "config.yaml").read_text())
    assert [found.run_id for found in store.list()] == [run.run_id, "20200101-000000-old-0000"]


def test_a_run_is_found_by_name_by_path_and_as_the_last_one(store, run):
    assert store.find(run.run_id) is run and store.find("last") is run
    assert store.find(str(run.path)).run_id == run.run_id


def test_a_run_is_found_by_the_beginning_of_its_name(store, run):
    assert store.open(run.run_id[:-2]) is run


def test_a_beginning_that_fits_several_runs_gets_their_names(store, run):
    other = store.create(run.config)
    with pytest.raises(UserError, match=f"fits 2 runs: {other.run_id}, {run.run_id}."):
        store.open(run.run_id[:8])


TOO_LONG = "x" * 300


@pytest.mark.parametrize("name", ["nothing", "../escape", "..", ".", "", "a/b", "a\x00b", "/etc", TOO_LONG])
def test_a_name_that_is_no_run_is_refused(store, run, name):
    for look in (store.open, store.find):
        with pytest.raises(UserError, match="There is no run"):
            look(name)


def test_a_name_never_leads_out_of_the_folder_of_runs(store, run, tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "config.yaml").write_text((run.path / "config.yaml").read_text())
    with pytest.raises(UserError):
        store.open("../outside")


def test_last_without_any_run_is_told(tmp_path):
    with pytest.raises(UserError, match="There is no run “last”"):
        RunStore(tmp_path / "none").find("last")


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/proc").is_dir(), reason="needs a folder that nobody may write to")
def test_a_folder_that_cannot_be_written_to_is_told_in_a_sentence(run):
    for folder in (Path("/proc/ftui-runs"), run.path / "config.yaml" / "runs"):
        with pytest.raises(UserError, match="cannot be written to"):
            RunStore(folder).create(run.config)


# events


def test_events_come_back_as_they_were_logged_and_only_new_lines_are_read(run):
    run.log("metrics", step=1, loss=0.5)
    run.log("message", "¿Qué?\nTwo lines \u2028 here.", "warning", trace="x")
    assert run.metrics() == [{"step": 1, "loss": 0.5}]
    last = Run(run.path).events()[-1]
    assert last == run.events()[-1]
    assert (last.message, last.level, last.data) == ("¿Qué?\nTwo lines \u2028 here.", "warning", {"trace": "x"})
    assert len((run.path / "events.jsonl").read_bytes().splitlines()) == len(run.events()) == 3


def test_whatever_byte_a_crash_cut_the_last_line_at_the_others_survive_and_the_next_is_whole(run, tmp_path):
    run.log("message", "before")
    kept = (run.path / "events.jsonl").read_bytes()
    run.log("message", "the last one, ü", value=[1, 2])
    whole = (run.path / "events.jsonl").read_bytes()
    for end in range(len(kept), len(whole)):
        folder = tmp_path / f"cut-{end}"
        folder.mkdir()
        (folder / "events.jsonl").write_bytes(whole[:end])
        watcher, writer = Run(folder), Run(folder)
        assert [event.message for event in watcher.events()] == ["Waiting to start.", "before"]
        writer.log("message", "after")
        expected = ["Waiting to start.", "before", "the last one, ü", "after"]
        if end < len(whole) - 1:  # all but its line break was written: then nothing is lost at all
            expected.remove("the last one, ü")
        assert [event.message for event in watcher.events()] == expected
        assert [event.message for event in Run(folder).events()] == expected


def test_a_line_that_is_no_event_is_passed_over(run):
    with (run.path / "events.jsonl").open("ab") as file:
        file.write(b'nonsense\n{"a": 1}\n[]\n\xff\xfe\n\n')
    run.log("message", "after")
    assert [event.message for event in run.events()] == ["Waiting to start.", "after"]


def test_an_event_of_the_wrong_shape_does_not_break_the_state(run):
    with (run.path / "events.jsonl").open("ab") as file:
        file.write(b'{"time": "", "level": "info", "type": "state", "message": "", "data": null}\n')
    assert run.written_state == "queued"


def test_two_threads_may_read_while_one_writes(run):
    seen: list[int] = []
    reader = threading.Thread(target=lambda: seen.extend(len(run.events()) for _ in range(200)))
    reader.start()
    for number in range(200):
        run.log("metrics", step=number)
    reader.join()
    assert seen == sorted(seen) and [row["step"] for row in run.metrics()] == list(range(200))


def test_what_a_crash_undid_is_left_out_of_the_measurements(run):
    for step in (1, 2, 3):
        run.log("metrics", step=step, loss=3.0)
    run.log("resumed", step=2)
    run.log("metrics", step=3, loss=1.0)
    assert [(row["step"], row["loss"]) for row in run.metrics()] == [(1, 3.0), (2, 3.0), (3, 1.0)]


# state and lock


def test_a_working_state_that_nobody_holds_reads_interrupted(run):
    assert run.state == "queued"
    with run.held():
        run.log("state", "Training.", state="training")
        assert run.state == "training" and run.is_held
    assert run.state == "interrupted" and not run.is_held
    run.end("done", "Done.")
    assert run.state == "done"


def test_a_run_whose_holder_is_killed_reads_interrupted_at_once(run, holder, store):
    assert run.is_held and run.state == "training" and store.working().run_id == run.run_id
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert not run.is_held and run.state == "interrupted" and store.working() is None
    with run.held():
        assert run.state == "training"


def test_a_second_holder_is_refused(run, holder):
    with pytest.raises(UserError, match="worked on by another process"), run.held():
        pytest.fail("two hold the same run")


def test_looking_whether_a_run_is_held_does_not_take_it_away(run):
    with run.held():
        assert all(Run(run.path).is_held and run.is_held for _ in range(3))
    assert not run.is_held


# stopping


def test_a_wish_to_stop_is_noticed_before_the_next_stage_and_forgotten_at_the_end(run):
    with run.stage("preparing", "Preparing."):
        run.stop()
    with pytest.raises(Stopped), run.stage("training", "Training."):
        pytest.fail("the stage began")
    assert run.written_state == "preparing" and Run(run.path).stop_wanted
    run.end("stopped", "Stopped.")
    assert not run.stop_wanted and run.state == "stopped"


def test_a_long_stage_counts_once_a_second_and_hears_a_wish_to_stop(run):
    seconds = iter([0, 0.4, 1.1])
    count = run.counting("prepared", 5000, clock=lambda: next(seconds))
    for done in (1000, 2000, 3000):
        count(done)
    counted = [event.data for event in run.events() if event.type == "progress"]
    assert [data["done"] for data in counted] == [1000, 3000] and counted[0]["of"] == 5000
    run.stop()
    with pytest.raises(Stopped):
        count(4000)


def test_a_shutdown_is_told_from_a_stop_that_a_person_wished(run):
    assert not run.shutting_down
    run.stop("shutdown")
    assert run.stop_wanted and run.shutting_down
    run.stop()
    assert run.stop_wanted and not run.shutting_down


def test_runs_that_waited_when_the_app_ended_still_wait_but_not_one_that_had_begun_or_is_worked_on(run, store):
    later, begun = store.create(run.config), store.create(run.config)
    begun.log("state", "Training.", state="training")
    begun.log("state", "Waiting to go on.", state="queued")
    with run.held():
        assert store.left_waiting() == [later]
    assert store.left_waiting() == [run, later]
    assert (run.state, later.state, begun.state) == ("queued", "queued", "interrupted")
    store.keep_order([later, run])
    last = store.create(run.config)
    assert RunStore(store.folder).left_waiting() != [] and store.left_waiting() == [later, run, last]


# files


def test_a_file_is_replaced_as_a_whole_or_not_at_all(run, tmp_path):
    path = write_whole(tmp_path / "file.txt", "old")
    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "half \ud800 broken")
    assert path.read_text() == "old"
    write_whole(path, "new ü")
    assert path.read_text(encoding="utf-8") == "new ü" and oct(path.stat().st_mode)[-3:] == "644"


def test_a_file_that_cannot_be_written_leaves_nothing_behind(tmp_path):
    with pytest.raises(UnicodeEncodeError):
        write_whole(tmp_path / "file.txt", "\ud800")
    assert not list(tmp_path.iterdir())


def test_a_reader_never_sees_half_a_file(run):
    texts = {letter * 200_000 for letter in "ab"}
    write_whole(run.path / "report.json", "a" * 200_000)
    done = threading.Event()

    def write() -> None:
        for _ in range(15):
            for text in texts:
                write_whole(run.path / "report.json", text)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        assert (run.path / "report.json").read_text() in texts
    writer.join()


def test_a_new_folder_takes_its_place_only_when_all_went_well(run):
    before = sorted(run.path.iterdir())
    with pytest.raises(ValueError), run.new_folder("adapter") as folder:
        (folder / "half").write_text("x")
        raise ValueError
    assert sorted(run.path.iterdir()) == before
    with run.new_folder("adapter") as folder:
        (folder / "whole").write_text("1")
        assert not run.adapter_dir.exists()
    with pytest.raises(ValueError), run.new_folder("adapter") as folder:
        raise ValueError
    assert (run.adapter_dir / "whole").read_text() == "1"
    with run.new_folder("adapter") as folder:
        (folder / "newer").write_text("2")
    assert [path.name for path in run.adapter_dir.iterdir()] == ["newer"]
    assert sorted(run.path.iterdir()) == sorted([*before, run.adapter_dir])


def test_what_a_killed_process_left_of_a_new_folder_makes_room_for_the_next(run):
    work = run.new_folder("merged")
    (work.__enter__() / "weights").write_text("half of them")
    assert len(list(run.path.glob(".merged-*"))) == 1, "nothing tidied up after the kill"
    with run.new_folder("merged") as folder:
        assert list(run.path.glob(".merged-*")) == [folder]


def test_json_that_is_missing_or_broken_reads_as_none(run):
    assert run.read_json("report.json") is None
    for broken in ('{"half": ', "[1, 2]"):
        (run.path / "report.json").write_text(broken)
        assert run.read_json("report.json") is None
    run.write("report.json", json.dumps({"a": 1}))
    assert run.read_json("report.json") == {"a": 1}


def test_the_same_files_under_other_names_are_kept_apart_from_those_of_an_older_run(store, tmp_path):
    def uploaded(*names: str) -> Path:
        for number, name in enumerate(names):
            (tmp_path / name).write_text(f"a\n{number}\n")
        return store.keep_uploads([tmp_path / name for name in names])

    older = uploaded("a.csv", "b.csv")
    newer = uploaded("a (1).csv", "b (1).csv")
    assert [len(list(folder.iterdir())) for folder in (older, newer)] == [2, 2]
    assert uploaded("a.csv", "b.csv") == older
