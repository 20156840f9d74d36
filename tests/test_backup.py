"""The backup: a run that is only in it goes on as if nothing had been lost; half of a copy is never taken for a whole one."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import huggingface_hub
import pytest
import yaml

from ftui import backup as backup_module
from ftui.background import BackgroundTrainer
from ftui.backup import Backup, FolderCopies, backup_of
from ftui.config import RunConfig
from ftui.device import Lease
from ftui.errors import UserError
from ftui.loop import carry_out
from ftui.runs import Run, RunStore
from ftui.train import rewind
from ftui.train.checkpoints import complete_checkpoints, mark_complete, step_of
from ftui.web import build_app
from tests.fake_hub import READER, WRITER, FakeHub
from tests.test_faults import Killed, killed_at, losses

ROOT = Path(__file__).parents[1]
STEPS = 9


@pytest.fixture
def longer(values: dict) -> RunConfig:
    """Nine steps with a checkpoint after every third."""
    values["training"] |= {"max_steps": STEPS, "eval_steps": 3}
    values["evaluation"] |= {"early_stopping_patience": 0}
    return RunConfig.parse(values)


@pytest.fixture
def backup(tmp_path) -> Backup:
    return backup_of(str(tmp_path / "bucket"))


def uploaded(config: RunConfig, store: RunStore) -> RunConfig:
    """The same config on rows that the page keeps."""
    kept = store.keep_uploads([Path(config.dataset.path)])
    Path(config.dataset.path).unlink()
    return config.model_copy(update={"dataset": config.dataset.model_copy(update={"path": str(kept)})})


def lose(store: RunStore, elsewhere: Path) -> RunStore:
    """The machine is gone, with all of its runs; a fresh one keeps them in another folder."""
    shutil.rmtree(store.folder)
    return RunStore(elsewhere)


@pytest.mark.true
def test_a_run_that_is_only_in_the_backup_goes_on_and_ends_like_one_that_was_never_lost(
    longer, store, backup, monkeypatch, tmp_path
):
    whole = RunStore(tmp_path / "whole").create(longer)
    assert carry_out(whole, Lease()) == "done"
    run = store.create(uploaded(longer, store))
    killed_at(run, 8, monkeypatch, backup)
    fresh = lose(store, tmp_path / "fresh")
    backup.bring_all(fresh)
    (found,) = fresh.list()
    assert (found.run_id, found.state) == (run.run_id, "interrupted")
    assert str(fresh.folder) in found.config.dataset.path and Path(found.config.dataset.path).is_file()
    assert not complete_checkpoints(found.checkpoints_dir)
    assert carry_out(found, Lease(), backup=backup) == "done"
    assert [event.data["step"] for event in found.events() if event.type == "resumed"] == [6]
    assert sum("The base answers" in event.message for event in found.events()) == 1
    expected, measured = losses(whole), losses(found)
    assert sorted(measured) == list(range(1, STEPS + 1))
    assert max(abs(measured[step] - expected[step]) for step in expected) < 1e-4


@pytest.fixture
def run(longer, store) -> Run:
    """A run with two complete checkpoints, as far as a backup sees."""
    run = store.create(longer)
    run.log("state", "Learning.", state="training")
    for step in (3, 6):
        save_step(run, step)
    return run


def save_step(run: Run, step: int) -> None:
    run.log("metrics", step=step, loss=1.0)
    folder = run.checkpoints_dir / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    for name in ("adapter_model.safetensors", "optimizer.pt", "trainer_state.json"):
        (folder / name).write_bytes(f"{name} of step {step}".encode() * 9)
    mark_complete(folder)


def files_of(run: Run) -> dict[str, Path]:
    return backup_module._files(run, complete_checkpoints(run.checkpoints_dir))


def whole_steps(folder: Path) -> dict[int, str]:
    """The complete checkpoints in a folder, with what is in them."""
    found = complete_checkpoints(folder / "checkpoints")
    return {step_of(path): (path / "optimizer.pt").read_text()[-1] for path in found}


def test_a_copy_that_is_killed_at_any_point_leaves_the_copy_before_it_or_none(run, backup, monkeypatch, tmp_path):
    """First without a copy before it, then on top of one; the kill leaves half a file."""
    copies, copy = backup.copies, backup_module._copy_whole
    copies.save(run.run_id, files_of(run))
    before = shutil.copytree(copies.folder, tmp_path / "before")
    shutil.rmtree(run.checkpoints_dir / "checkpoint-3")
    save_step(run, 9)
    points = len(files_of(run))
    assert points == 4 + 4 + 2  # two checkpoints, the events, the config

    for is_first in (True, False):
        for point in range(points):
            shutil.rmtree(copies.folder)
            copies.folder.mkdir() if is_first else shutil.copytree(before, copies.folder)
            made = iter(range(points))

            def dying(file: Path | bytes, target: Path, point: int = point, made: Iterator[int] = made) -> None:
                if next(made) < point:
                    return copy(file, target)
                target.parent.mkdir(parents=True, exist_ok=True)
                half = (file if isinstance(file, bytes) else file.read_bytes())[:7]
                target.with_name(f".part-{target.name}").write_bytes(half)
                raise Killed

            with monkeypatch.context() as patch, pytest.raises(Killed):
                patch.setattr(backup_module, "_copy_whole", dying)
                copies.save(run.run_id, files_of(run))
            assert copies.names() == ([] if is_first else [run.run_id])
            if not is_first:
                fetched = copies.fetch(run.run_id, tmp_path / f"fetched-{point}", checkpoints=True)
                steps = whole_steps(fetched)
                assert steps in ({3: "3", 6: "6"}, {3: "3", 6: "6", 9: "9"}) and copies.newest(run.run_id) == max(steps)
                assert not list(fetched.rglob(".part-*"))
                copied = Run(copies.folder / run.run_id)
                assert set(losses(copied)) >= set(steps), "a checkpoint is ahead of the events that led to it"
    copies.save(run.run_id, files_of(run))
    assert whole_steps(copies.folder / run.run_id) == {6: "6", 9: "9"}


def test_an_end_that_comes_while_a_copy_is_made_is_told_by_the_copy_that_has_its_adapter(run, backup, monkeypatch):
    copies, copy = backup.copies, backup_module._copy_whole

    def ending(file: Path | bytes, target: Path) -> None:
        if run.state != "done":
            run.adapter_dir.mkdir()
            (run.adapter_dir / "adapter_model.safetensors").write_bytes(b"learned")
            run.end("done", "Done.")
        copy(file, target)

    with monkeypatch.context() as patch:
        patch.setattr(backup_module, "_copy_whole", ending)
        copies.save(run.run_id, files_of(run))
    copied = Run(copies.folder / run.run_id)
    assert run.state == "done" and copied.state == "interrupted"
    copies.save(run.run_id, files_of(run))
    assert Run(copied.path).state == "done" and (copied.adapter_dir / "adapter_model.safetensors").is_file()


def test_a_step_that_was_learned_again_takes_the_place_of_the_one_before_and_is_not_whole_meanwhile(
    run, backup, monkeypatch
):
    copies = backup.copies
    copies.save(run.run_id, files_of(run))
    shutil.rmtree(run.checkpoints_dir / "checkpoint-6")
    save_step(run, 6)
    for path in (run.checkpoints_dir / "checkpoint-6").iterdir():
        os.utime(path, (1, 1))

    def dying(file: Path | bytes, target: Path) -> None:
        if target.name == "optimizer.pt" and "checkpoint-6" in str(target):
            raise Killed
        copy(file, target)

    copy = backup_module._copy_whole
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(backup_module, "_copy_whole", dying)
        copies.save(run.run_id, files_of(run))
    assert copies.newest(run.run_id) == 3
    copies.save(run.run_id, files_of(run))
    assert copies.newest(run.run_id) == 6


def test_checkpoints_come_back_only_where_the_backup_is_further(run, backup):
    backup.copies.save(run.run_id, files_of(run))
    shutil.rmtree(run.checkpoints_dir / "checkpoint-6")
    backup.bring_checkpoints(run)
    assert whole_steps(run.path) == {3: "3", 6: "6"}
    save_step(run, 9)
    said = len(run.events())
    backup.bring_checkpoints(run)
    assert sorted(whole_steps(run.path)) == [3, 6, 9] and len(run.events()) == said


def test_a_run_in_the_trash_does_not_come_back(run, store, backup):
    backup.copies.save(run.run_id, files_of(run))
    store.trash(run)
    backup.bring_all(store)
    assert store.list() == []


def test_a_run_is_found_in_the_backup_by_the_beginning_of_its_name_or_as_the_last(run, backup, tmp_path):
    backup.copies.save(run.run_id, files_of(run))
    for number, name in enumerate((run.run_id[:16], run.run_id, "last")):
        fresh = RunStore(tmp_path / f"fresh-{number}")
        backup.bring(name, fresh)
        assert fresh.find(name).run_id == run.run_id
    backup.bring("20001231", empty := RunStore(tmp_path / "empty"))
    assert empty.list() == []


def test_the_page_lists_what_is_only_in_the_backup(run, backup, monkeypatch, tmp_path):
    backup.copies.save(run.run_id, files_of(run))
    monkeypatch.setenv("FTUI_BACKUP", str(backup.copies.folder))
    build_app(tmp_path / "fresh", None)
    (found,) = RunStore(tmp_path / "fresh").list()
    assert (found.run_id, found.state) == (run.run_id, "interrupted")


def test_a_broken_config_in_the_backup_keeps_no_app_from_starting(run, backup, monkeypatch, tmp_path):
    backup.copies.save(run.run_id, files_of(run))
    (backup.copies.folder / run.run_id / "config.yaml").write_text("[half")
    monkeypatch.setenv("FTUI_BACKUP", str(backup.copies.folder))
    build_app(tmp_path / "fresh", None)
    assert [found.base_model for found in RunStore(tmp_path / "fresh").list()] == ["its config cannot be read"]


@pytest.mark.true
def test_the_last_state_and_the_adapter_are_in_the_backup_and_a_done_run_comes_back_done(
    longer, store, backup, tmp_path
):
    run = store.create(longer)
    assert carry_out(run, Lease(), backup=backup) == "done"
    steps = {path.name for path in run.checkpoints_dir.glob("checkpoint-*")}
    assert {path.name for path in (backup.copies.folder / run.run_id / "checkpoints").iterdir()} == steps
    fresh = lose(store, tmp_path / "fresh")
    backup.bring_all(fresh)
    (found,) = fresh.list()
    assert found.state == "done" and (found.adapter_dir / "adapter_model.safetensors").is_file()
    assert found.read_json("report.json") and len(losses(found)) == STEPS


@pytest.mark.true
def test_a_backup_that_fails_is_a_warning_and_the_run_is_done(longer, store, backup):
    run = store.create(longer)
    shutil.rmtree(backup.copies.folder)
    backup.copies.folder.write_text("no folder any more")
    assert carry_out(run, Lease(), backup=backup) == "done"
    warnings = [event for event in run.events() if "backup" in event.message]
    assert warnings and all(event.level == "warning" for event in warnings)
    assert "the run goes on" in warnings[0].message


@pytest.mark.true
def test_training_does_not_wait_for_a_copy(longer, store, backup):
    run, seen = store.create(longer), []
    save = backup.copies.save

    def slow(run_id, files):
        until = time.monotonic() + 240
        while not seen and max(losses(run), default=0) < STEPS and time.monotonic() < until:
            time.sleep(0.01)
        seen.append(max(losses(run)))
        save(run_id, files)

    backup.copies.save = slow
    assert carry_out(run, Lease(), backup=backup) == "done"
    assert seen[0] == STEPS


def test_a_folder_that_cannot_be_written_to_is_told_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="FTUI_BACKUP"):
        backup_of(str(tmp_path / "file"))
    assert backup_of(None) is None and backup_of("") is None


@pytest.mark.true
def test_a_killed_process_goes_on_in_the_terminal_of_a_fresh_machine(values, tmp_path):
    values["training"] |= {"max_steps": 300, "eval_steps": 10}
    values["evaluation"] |= {"early_stopping_patience": 0}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    environment = os.environ | {"FTUI_BACKUP": str(tmp_path / "bucket")}
    command = [sys.executable, "-m", "ftui", "train"]
    lost = [*command, str(tmp_path / "config.yaml"), "--runs", str(tmp_path / "lost")]
    process = subprocess.Popen(lost, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    copies, until = FolderCopies(tmp_path / "bucket"), time.monotonic() + 240
    while not (copies.names() and copies.newest(copies.names()[0]) >= 20):
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    shutil.rmtree(tmp_path / "lost")
    (run_id,) = copies.names()
    again = [*command, "--resume", run_id, "--runs", str(tmp_path / "fresh")]
    done = subprocess.run(again, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    run = RunStore(tmp_path / "fresh").open(run_id)
    assert run.state == "done" and sorted(losses(run)) == list(range(1, 301))
    assert next(event.data["step"] for event in run.events() if event.type == "resumed") >= 20


# on the Hub


HUB_USER = """
import sys, pathlib
from ftui.backup import backup_of
from ftui.device import Lease
from ftui.loop import carry_out
from ftui.runs import RunStore
from ftui.errors import UserError

try:
    backup = backup_of("hub:ana/backup")
except UserError as error:
    sys.exit(str(error))
store = RunStore(pathlib.Path(sys.argv[1]))
backup.bring_all(store)
for run in store.list():
    print(run.run_id, run.state, carry_out(run, Lease(), backup=backup) if run.state != "done" else "")
    print(*[event.message for event in run.events() if event.level == "warning"], sep="\\n")
    print("resumed at", *[event.data["step"] for event in run.events() if event.type == "resumed"])
"""


def on_the_hub(hub: FakeHub, folder: Path, token: str | None) -> subprocess.CompletedProcess[str]:
    """A machine of its own that knows this Hub, and carries out all runs that are not done."""
    environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "hf"), "HF_HUB_DISABLE_XET": "1"}
    environment |= {"HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_PROGRESS_BARS": "1"} | ({"HF_TOKEN": token} if token else {})
    command = [sys.executable, "-c", HUB_USER, str(folder / "runs")]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)


@pytest.fixture
def hub():
    with FakeHub().running() as hub:
        yield hub


@pytest.mark.true
def test_a_run_is_copied_to_a_private_repository_and_goes_on_from_there(hub, longer, tmp_path, monkeypatch):
    store = RunStore(tmp_path / "first" / "runs")
    run = store.create(uploaded(longer, store))
    killed_at(run, 5, monkeypatch)
    done = on_the_hub(hub, tmp_path / "first", WRITER)
    assert "interrupted done" in done.stdout and "resumed at 3" in done.stdout, done.stderr
    repository = hub.repositories["models", "ana/backup"]
    assert repository.private
    files = repository.commits[repository.branches["main"]]
    steps = {path.split("/")[2] for path in files if path.startswith(f"{run.run_id}/checkpoints/")}
    assert steps == {path.name for path in run.checkpoints_dir.glob("checkpoint-*")}
    # Back to the commit after the first copy: the machine is lost in the middle of the run.
    commit, files = next((each, files) for each, files in repository.commits.items() if _steps(files) == {3, 6})
    repository.branches["main"] = commit
    shutil.rmtree(tmp_path / "first")
    done = on_the_hub(hub, tmp_path / "second", WRITER)
    assert "interrupted done" in done.stdout and "resumed at 3 6" in done.stdout, done.stderr
    assert "backup" not in done.stdout
    found = RunStore(tmp_path / "second" / "runs").list()[0]
    assert sorted(losses(found)) == list(range(1, STEPS + 1))


def _steps(files: dict[str, bytes]) -> set[int]:
    return {int(path.split("/")[2].split("-")[1]) for path in files if path.endswith("/complete.json")}


@pytest.mark.true
def test_what_cannot_be_a_backup_on_the_hub_is_told(hub, tmp_path):
    assert "HF_TOKEN" in on_the_hub(hub, tmp_path, READER).stderr
    assert "HF_TOKEN" in on_the_hub(hub, tmp_path, None).stderr
    hub.publish("ana/backup", {".gitattributes": b""})
    assert "public" in on_the_hub(hub, tmp_path, WRITER).stderr


def test_a_way_back_to_an_older_checkpoint_is_one_in_the_backup_as_well(run, store, backup):
    with backup.following(run):
        pass
    run.end("stopped", "Stopped.")
    rewind(run, 3, backup.follow_back)
    assert backup.copies.newest(run.run_id) == 3
    backup.bring_checkpoints(run)
    assert list(whole_steps(run.path)) == [3]


def test_a_way_back_that_is_cut_off_has_been_taken_here_and_in_the_backup_or_nowhere(run, backup, monkeypatch):
    """The copy is changed first: a checkpoint that is thrown away here never comes back from there."""
    with backup.following(run):
        pass
    run.end("stopped", "Stopped.")
    rmtree = shutil.rmtree

    def dying(*arguments, **options):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(backup.copies, "save", dying)
        rewind(run, 3, backup.follow_back)
    assert sorted(whole_steps(run.path)) == [3, 6] == sorted(whole_steps(backup.copies.folder / run.run_id))
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(
            shutil, "rmtree", lambda path, **options: dying() if "checkpoint" in str(path) else rmtree(path, **options)
        )
        rewind(run, 3, backup.follow_back)
    assert backup.copies.newest(run.run_id) == 3


def test_a_full_disk_under_the_backup_is_not_kept_full_by_half_a_file_and_the_next_copy_is_made(
    run, backup, monkeypatch
):
    copy2, log = shutil.copy2, Run.log

    def full(file, target, **options):
        Path(target).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    def mute(self, *arguments, **data):
        raise OSError(28, "No space left on device")

    with backup.following(run) as wanted:
        with monkeypatch.context() as patch:
            patch.setattr(shutil, "copy2", full)
            patch.setattr(Run, "log", mute)
            wanted()
            _until(lambda: any(backup.copies.folder.rglob("*")))
            _until(lambda: not any(path.is_file() for path in backup.copies.folder.rglob(".part-*")))
        assert (shutil.copy2, Run.log) == (copy2, log)
    assert backup.copies.newest(run.run_id) == 6


def _until(true: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not true():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_what_is_deleted_for_good_does_not_come_back_from_the_backup(run, store, backup):
    with backup.following(run):
        pass
    other = store.create(run.config)
    with backup.following(other):
        pass
    store.trash(run)
    BackgroundTrainer(store, Lease(), backup).empty_trash()
    assert backup.copies.names() == [other.run_id] and not store.trashed()
    backup.bring_all(store)
    assert [each.run_id for each in store.list()] == [other.run_id]


def test_a_run_that_has_its_checkpoint_here_goes_on_although_the_backup_cannot_be_read(run, backup, monkeypatch):
    def unreachable(*arguments):
        raise UserError("The Hub cannot be reached.")

    monkeypatch.setattr(backup.copies, "newest", unreachable)
    backup.bring_checkpoints(run)
    assert run.events()[-1].message.endswith("The run goes on from the newest checkpoint here.")
    shutil.rmtree(run.path / "checkpoints")
    with pytest.raises(UserError, match="cannot be reached"):
        backup.bring_checkpoints(run)


def test_a_discarded_run_is_known_as_such_although_its_backup_failed_after_its_end(run):
    run.stop("discard")
    run.end("stopped", "Stopped and thrown away; it lies in the trash.")
    run.log("message", "The backup failed.", "warning")
    assert run.discarded


def test_what_a_killed_fetch_left_is_cleared_away_and_one_that_goes_on_is_not(run, store, backup):
    with backup.following(run):
        pass
    old, new = store.folder / ".bring-old", store.folder / ".bring-new"
    for left in (old, new):
        left.mkdir()
    os.utime(old, (0, 0))
    shutil.rmtree(run.path)
    backup.bring_all(store)
    assert not old.exists() and new.exists() and store.list()


@pytest.mark.true
def test_an_app_starts_without_the_hub_and_its_backup_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", "http://127.0.0.1:9")
    backup = backup_of("hub:somebody/runs")
    backup.bring_all(RunStore(tmp_path))
    said = capsys.readouterr().err
    assert "somebody/runs on the Hub cannot be reached" in said and "not shown" in said


@pytest.mark.true
def test_an_app_starts_although_the_hub_takes_its_questions_and_never_answers(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("ftui.hub.SILENCE_SECONDS", 0.2)
    silent = socket.create_server(("127.0.0.1", 0))  # takes connections, reads nothing
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
    monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
    huggingface_hub.close_session()
    try:
        backup_of("hub:somebody/runs").bring_all(RunStore(tmp_path))
    finally:
        huggingface_hub.close_session()
        silent.close()
    assert "somebody/runs on the Hub cannot be reached" in capsys.readouterr().err
