"""Models on the Hugging Face Hub: looked at by their small files, fetched only when they can be tuned. No network of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

from ftui.errors import UserError
from ftui.hub import hub_api

TEXT = ["*.json", "*.jinja", "*.txt", "tokenizer.model", "LICENSE*", "README.md"]
WEIGHTS_AND_TEXT = ["*.safetensors", *TEXT]
SECOND_COPIES = ["*/*", "consolidated*"]  # the same weights for other programs: gigabytes that nobody would open


class HubModel(NamedTuple):
    """A repository by its small files. `weights` in bytes and `parameters` are None while the Hub cannot be asked."""

    folder: Path
    commit: str
    has_safetensors: bool | None
    weights: int | None
    parameters: int | None


def look(repository: str, revision: str | None, token: str | bool | None) -> HubModel:
    """Fetches the small files, or finds them in the cache where the Hub does not help. UserError says why they cannot be had."""
    from httpx2 import HTTPError
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError, RevisionNotFoundError

    with _explained(repository, revision):
        try:  # one question with a short limit; those that follow are asked again and again
            info = hub_api(token).model_info(repository, revision=revision, files_metadata=True, timeout=10)
        except RevisionNotFoundError:
            raise
        except (HTTPError, OSError) as error:
            try:
                cached = snapshot_download(repository, revision=revision, allow_patterns=TEXT, local_files_only=True)
            except LocalEntryNotFoundError:
                raise error from None
            return _as_cached(repository, Path(cached))
        folder = Path(
            snapshot_download(repository, revision=revision, allow_patterns=TEXT, token=token, etag_timeout=10)
        )
    weights = [file for file in info.siblings or [] if _is_weights(file.rfilename)]
    parameters = info.safetensors.total if info.safetensors else None
    return HubModel(folder, folder.name, bool(weights), sum(file.size or 0 for file in weights), parameters)


def _as_cached(repository: str, folder: Path) -> HubModel:
    """What the cache knows of a commit: its list of files tells of weights, too, that were never fetched."""
    from huggingface_hub import get_cached_repo_tree
    from huggingface_hub.errors import CachedRepoTreeNotFoundError

    try:
        files = get_cached_repo_tree(repository, revision=folder.name)
    except CachedRepoTreeNotFoundError:
        return HubModel(folder, folder.name, None, None, None)
    weights = [file.size for file in files if _is_weights(file.path)]
    return HubModel(folder, folder.name, bool(weights), sum(weights), None)


def _is_weights(path: str) -> bool:
    return path.endswith(".safetensors") and not any(fnmatch(path, pattern) for pattern in SECOND_COPIES)


def fetch(repository: str, revision: str | None, token: str | bool | None) -> Path:
    """Fetches everything that loading needs. UserError says why it cannot be had."""
    from huggingface_hub import snapshot_download

    with _explained(repository, revision):
        return Path(
            snapshot_download(
                repository,
                revision=revision,
                allow_patterns=WEIGHTS_AND_TEXT,
                ignore_patterns=SECOND_COPIES,
                token=token,
                etag_timeout=10,
            )
        )


@contextmanager
def _explained(repository: str, revision: str | None) -> Iterator[None]:
    from httpx2 import HTTPError
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except HFValidationError:
        raise UserError(f"“{repository}” is neither a folder nor a Hub id such as owner/name.") from None
    except GatedRepoError:
        raise UserError(
            f"{repository} is gated: accept its terms on its Hub page, then set HF_TOKEN to a token of that account."
        ) from None
    except RepositoryNotFoundError:
        raise UserError(
            f"There is no model {repository} on the Hub, or it is private. Check the spelling; for a private one set HF_TOKEN."
        ) from None
    except RevisionNotFoundError:
        raise UserError(f"{repository} has no revision “{revision}”. Leave it empty for the newest.") from None
    except HfHubHTTPError as error:
        raise UserError(f"{repository} cannot be fetched: {_refusal(error.response.status_code)}") from None
    except UnicodeEncodeError:
        raise UserError(f"{repository} cannot be fetched: {_refusal(401)}") from None
    except (HTTPError, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.strerror:
            raise UserError(
                f"{repository} cannot be saved on this machine: {error.strerror}. "
                "Make room, or set HF_HOME to a folder that can be written."
            ) from None
        raise UserError(
            f"{repository} is not on this machine, and the Hugging Face Hub cannot be reached. "
            "Check the network, or choose the starter or a local folder."
        ) from None


def _refusal(status: int) -> str:
    if status in (401, 403):
        return "the Hub does not accept HF_TOKEN for it. Set a token that is valid and may read it, or unset HF_TOKEN."
    if status == 429:
        return "the Hub has had too many requests from here. Wait some minutes; with HF_TOKEN set it allows more."
    return f"the Hub answers with an error of its own ({status}). Try again in some minutes, or choose a local folder."
