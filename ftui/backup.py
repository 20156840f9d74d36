"""Backup: what a run needs to go on, copied elsewhere after each complete checkpoint, and brought back on a fresh machine.

A copy looks like the run's own folder. The events come before the checkpoints that they lead to, each checkpoint's mark after
its files, which tells a whole one from half of one, and the config after everything else, so that a run is listed only once it
can go on. This file does not know what is trained.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from ftui.errors import UserError
from ftui.hub import hub_api
from ftui.runs import CHECKPOINTS, UPLOADS, Run, RunStore
from ftui.train.checkpoints import MARK, complete_checkpoints, step_of

HUB = "hub:"
KEPT = ("split.json", "base_answers.json", "results.csv", "report.json", "report.md", "proof.json", "README.md")
EVENTS, CONFIG = "events.jsonl", "config.yaml"
PARTIAL = ".part-"
LEFT_SECONDS = 86_400

Files = dict[str, Path | bytes]  # where in the copy -> the file, or what was in it; in the order of copying


def backup_of(setting: str | None) -> Backup | None:
    """The backup that FTUI_BACKUP names: a folder, or a repository as `hub:user/name`. UserError when it cannot be used."""
    if not setting:
        return None
    return Backup(HubCopies(setting.removeprefix(HUB)) if setting.startswith(HUB) else FolderCopies(Path(setting)))


class Backup:
    """Copies runs as they go and brings them back; `copies` says where to."""

    def __init__(self, copies: FolderCopies | HubCopies) -> None:
        self.copies = copies

    @contextmanager
    def following(self, run: Run) -> Iterator[Callable[[], None]]:
        """Within the block, what it yields asks for a copy, which a thread makes; at its end the last state is copied.

        A copy that fails is a warning in the run, never its end.
        """
        wanted, ended = threading.Event(), threading.Event()

        def work() -> None:
            is_last = False
            while not is_last:
                wanted.wait()
                wanted.clear()
                is_last = ended.is_set()
                self._save(run)

        thread = threading.Thread(target=work, name="ftui-backup", daemon=True)
        thread.start()
        try:
            yield wanted.set
        finally:
            ended.set()
            wanted.set()
            thread.join()

    def _save(self, run: Run) -> None:
        checkpoints = complete_checkpoints(run.checkpoints_dir)
        try:
            self.copies.save(run.run_id, _files(run, checkpoints))
        except Exception as error:  # whatever it is, the run goes on
            if complete_checkpoints(run.checkpoints_dir) != checkpoints:
                return  # training has replaced one meanwhile, and has asked for the next copy
            said = " ".join(str(error).split())[:300]
            with suppress(OSError):  # on a full disk the next copy may be made, once there is room
                run.log("message", f"The backup to {self.copies.name} failed, and the run goes on: {said}", "warning")

    def follow_back(self, run: Run, step: int) -> None:
        """Before a way back to an older checkpoint: the copy must not bring the later ones back. UserError when it cannot be
        changed."""
        try:
            if run.run_id in self.copies.names():
                kept = [path for path in complete_checkpoints(run.checkpoints_dir) if step_of(path) <= step]
                self.copies.save(run.run_id, _files(run, kept))
        except Exception as error:
            raise UserError(
                f"{self.copies.name} holds the later checkpoints and cannot be changed: "
                f"{' '.join(str(error).split())[:200]} Nothing was taken back. Try it again later."
            ) from None

    def forget(self, names: set[str]) -> None:
        """Deletes the copies of these runs, which would come back otherwise. UserError when it cannot be done."""
        for run_id in names & set(self.copies.names()) if names else ():
            self.copies.remove(run_id)

    def bring_all(self, store: RunStore) -> None:
        """Brings back every run that is only in the backup, but for its checkpoints: those come when it goes on.

        An app starts without them where the backup cannot be read, and says so.
        """
        try:
            for run_id in self._missing(store):
                self._bring(run_id, store)
        except (UserError, OSError) as error:
            print(f"ftui: {error} Runs that are only there are not shown.", file=sys.stderr, flush=True)

    def bring(self, name: str, store: RunStore) -> None:
        """Brings back the run of this name, or the only one whose name begins so, if it is only in the backup."""
        names = self._missing(store)
        if name == "last":
            found = names[:1] if not store.list() else []
        else:
            found = [name] if name in names else [each for each in names if name and each.startswith(name)]
        if len(found) == 1:
            self._bring(found[0], store)

    def _missing(self, store: RunStore) -> list[str]:
        """What is neither here nor in the trash, the newest first."""
        here = {run.run_id for run in store.list()} | {path.name for path in store.trash_dir.glob("*")}
        return sorted((name for name in set(self.copies.names()) - here if re.fullmatch(r"[\w-]+", name)), reverse=True)

    def _bring(self, run_id: str, store: RunStore) -> None:
        store.folder.mkdir(parents=True, exist_ok=True)
        _clear(store.folder)
        with tempfile.TemporaryDirectory(prefix=".bring-", dir=store.folder) as work:
            copy = self.copies.fetch(run_id, Path(work), checkpoints=False)
            uploads = store.folder.resolve() / UPLOADS
            if (copy / UPLOADS).is_dir():
                shutil.copytree(copy / UPLOADS, uploads, dirs_exist_ok=True)
                shutil.rmtree(copy / UPLOADS)
            with suppress(yaml.YAMLError, UnicodeDecodeError):  # a run whose config is broken says so itself
                config = yaml.safe_load((copy / "config.yaml").read_text(encoding="utf-8"))
                moved = yaml.safe_dump(_moved(config, uploads), sort_keys=False, allow_unicode=True)
                (copy / "config.yaml").write_text(moved, encoding="utf-8")
            copy.rename(store.folder / run_id)

    def bring_checkpoints(self, run: Run) -> None:
        """Brings the checkpoints of a run that has none, or only older ones. UserError when it has none and they cannot be
        had; a run that has some goes on from those."""
        if not any(event.data.get("state") == "training" for event in run.events()):
            return
        here = run.checkpoints_dir
        here.mkdir(exist_ok=True)
        newest = max(map(step_of, complete_checkpoints(here)), default=0)
        _clear(run.path)
        try:
            if self.copies.newest(run.run_id) > newest:
                self._bring_checkpoints(run, here, newest)
        except UserError as error:
            if not newest:
                raise
            run.log("message", f"{error} The run goes on from the newest checkpoint here.", "warning")

    def _bring_checkpoints(self, run: Run, here: Path, newest: int) -> None:
        with tempfile.TemporaryDirectory(prefix=".bring-", dir=run.path) as work:
            for checkpoint in complete_checkpoints(self.copies.fetch(run.run_id, Path(work), True) / CHECKPOINTS):
                if step_of(checkpoint) > newest or not (here / checkpoint.name).exists():
                    shutil.rmtree(here / checkpoint.name, ignore_errors=True)
                    checkpoint.rename(here / checkpoint.name)
        run.log("message", f"The checkpoint was brought back from {self.copies.name}.")


def _files(run: Run, checkpoints: list[Path]) -> Files:
    """What is copied, in this order.

    The events are read after the checkpoints were listed and before anything else is: they tell every step that led to one of
    them, and no end whose adapter and report are not in the list.
    """
    events = _small(run, EVENTS)
    learned = _below(run.path, run.adapter_dir) | _small(run, *KEPT)
    uploads = run.path.parent / UPLOADS
    used = {uploads / path.parts[0] for path in _uploads(run.config.model_dump(mode="json"))}
    return _below(run.path.parent, *used) | learned | events | _below(run.path, *checkpoints) | _small(run, CONFIG)


def _small(run: Run, *names: str) -> Files:
    """What is in those files of a run that may change while they are copied."""
    return {name: (run.path / name).read_bytes() for name in names if (run.path / name).is_file()}


def _below(top: Path, *folders: Path) -> Files:
    """All files of some folders, named from `top`; the mark of a checkpoint after all that it vouches for."""
    paths = [path for folder in folders for path in sorted(folder.rglob("*"), key=lambda path: path.name == MARK)]
    return {str(path.relative_to(top)): path for path in paths if path.is_file()}


def _uploads(value: Any) -> Iterator[Path]:
    """The paths below the folder of uploads, from it, that stand in a config."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _uploads(each)
    elif isinstance(value, str) and f"/{UPLOADS}/" in value:
        yield Path(value.split(f"/{UPLOADS}/")[1])


def _moved(value: Any, uploads: Path) -> Any:
    """A config whose uploads lie in this machine's folder of them."""
    if isinstance(value, dict):
        return {key: _moved(each, uploads) for key, each in value.items()}
    if isinstance(value, list):
        return [_moved(each, uploads) for each in value]
    return next((str(uploads / path) for path in _uploads(value)), value)


def _clear(folder: Path) -> None:
    """Deletes what a process that was killed while it fetched has left."""
    for left in folder.glob(".bring-*"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > LEFT_SECONDS:  # another process may fetch just now
                shutil.rmtree(left)


class FolderCopies:
    """Copies in a folder, such as a mounted bucket."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = f"the folder {folder.name}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise UserError(f"FTUI_BACKUP: {folder} cannot be written to: {error.strerror}.") from None

    def save(self, run_id: str, files: Files) -> None:
        """Copies what is new, then removes what the run has no longer."""
        copy = self.folder / run_id
        for name, file in files.items():
            if Path(name).name == MARK and not _is_same(file, copy / name):
                (copy / name).unlink(missing_ok=True)  # not whole while it is being replaced
        for name, file in files.items():
            _copy_whole(file, copy / name)
        gone = [path for path in copy.rglob("*") if path.is_file() and str(path.relative_to(copy)) not in files]
        for path in sorted(gone, key=lambda path: path.name != MARK):  # first what says that a checkpoint is whole
            path.unlink(missing_ok=True)
        for folder in sorted((path for path in copy.rglob("*") if path.is_dir()), reverse=True):
            with suppress(OSError):  # not empty
                folder.rmdir()

    def remove(self, run_id: str) -> None:
        try:
            (self.folder / run_id / "config.yaml").unlink(missing_ok=True)  # by which it is listed
            shutil.rmtree(self.folder / run_id)
        except OSError as error:
            raise UserError(f"The copy of {run_id} in {self.name} cannot be deleted: {error.strerror}.") from None

    def names(self) -> list[str]:
        return [path.parent.name for path in self.folder.glob("*/config.yaml")]

    def newest(self, run_id: str) -> int:
        """The step of the newest complete checkpoint; 0 where there is none."""
        return max(map(step_of, complete_checkpoints(self.folder / run_id / CHECKPOINTS)), default=0)

    def fetch(self, run_id: str, work: Path, checkpoints: bool) -> Path:
        """The copy of a run in a folder below `work`: its checkpoints, or everything else."""
        whole = [path.name for path in complete_checkpoints(self.folder / run_id / CHECKPOINTS)]

        def passed_over(folder: str, names: list[str]) -> list[str]:
            is_top = Path(folder) == self.folder / run_id
            unwanted = [name for name in names if is_top and (name == CHECKPOINTS) != checkpoints]
            half = [name for name in names if name.startswith("checkpoint-") and name not in whole]
            return [*unwanted, *half, *(name for name in names if name.startswith(PARTIAL))]

        return Path(shutil.copytree(self.folder / run_id, work / run_id, ignore=passed_over))


def _is_same(file: Path | bytes, copied: Path) -> bool:
    try:
        if isinstance(file, bytes):
            return file == copied.read_bytes()
        here, there = file.stat(), copied.stat()
    except OSError:
        return False
    return (here.st_size, int(here.st_mtime)) == (there.st_size, int(there.st_mtime))


def _copy_whole(file: Path | bytes, target: Path) -> None:
    """Copies under a temporary name, flushes, and renames; what is there already is left."""
    if _is_same(file, target):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(PARTIAL + target.name)
    try:
        if isinstance(file, bytes):
            partial.write_bytes(file)
        else:
            shutil.copy2(file, partial)
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)  # half a file would keep a full disk full


class HubCopies:
    """Copies in a private repository on the Hub: a commit a copy, so that no half of one is ever seen."""

    def __init__(self, repository: str) -> None:
        self.repository, self.name = repository, f"{repository} on the Hub"
        self._api, self._is_private = hub_api(), False
        try:
            self._check_private()
        except _Unreachable as error:  # perhaps not for long: each copy tries it again
            print(f"ftui: {error}", file=sys.stderr, flush=True)

    def _check_private(self) -> None:
        if self._is_private:
            return
        with _explained(self.repository):
            self._api.create_repo(self.repository, private=True, exist_ok=True)
            self._is_private = bool(self._api.repo_info(self.repository).private)
        if not self._is_private:
            raise UserError(f"FTUI_BACKUP: {self.repository} is public, and a backup holds your rows. Make it private.")

    def save(self, run_id: str, files: Files) -> None:
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        self._check_private()
        # The Hub itself passes over what it has already.
        added = [CommitOperationAdd(f"{run_id}/{name}", file) for name, file in files.items()]
        gone = [
            CommitOperationDelete(path)
            for path in self._paths()
            if path.startswith(f"{run_id}/") and path.removeprefix(f"{run_id}/") not in files
        ]
        self._api.create_commit(self.repository, [*added, *gone], commit_message=f"ftui: {run_id}")

    def remove(self, run_id: str) -> None:
        from huggingface_hub import CommitOperationDelete

        with _explained(self.repository):
            gone = [CommitOperationDelete(f"{run_id}/", is_folder=True)]
            self._api.create_commit(self.repository, gone, commit_message=f"ftui: {run_id} was deleted")

    def names(self) -> list[str]:
        self._check_private()  # one short question; a list is asked for again and again
        with _explained(self.repository):
            return [path.split("/")[0] for path in self._paths() if path.endswith("/config.yaml")]

    def newest(self, run_id: str) -> int:
        """The step of the newest complete checkpoint; 0 where there is none."""
        with _explained(self.repository):
            paths = [Path(path) for path in self._paths() if path.startswith(f"{run_id}/{CHECKPOINTS}/")]
        return max((step_of(path.parent) for path in paths if path.name == MARK), default=0)

    def fetch(self, run_id: str, work: Path, checkpoints: bool) -> Path:
        """The copy of a run in a folder below `work`: its checkpoints, or everything else."""
        from huggingface_hub import snapshot_download

        those = f"{run_id}/{CHECKPOINTS}/*"
        chosen = (
            {"allow_patterns": those} if checkpoints else {"allow_patterns": f"{run_id}/*", "ignore_patterns": those}
        )
        with _explained(self.repository):
            return Path(snapshot_download(self.repository, local_dir=work, **chosen)) / run_id

    def _paths(self) -> list[str]:
        return self._api.list_repo_files(self.repository)


class _Unreachable(UserError):
    """The Hub does not answer."""


@contextmanager
def _explained(repository: str) -> Iterator[None]:
    from httpx2 import HTTPError
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        yield
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise UserError(
            f"FTUI_BACKUP: {repository} on the Hub cannot be used: {' '.join(str(error).split())[:200]} "
            "It takes a token in HF_TOKEN that may write to it."
        ) from None
    except HTTPError as error:
        raise _Unreachable(f"FTUI_BACKUP: {repository} on the Hub cannot be reached: {error}.") from None
