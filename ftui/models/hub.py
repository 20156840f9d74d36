"""Models on the Hugging Face Hub: looked at by their small files, fetched only when they can be tuned. No network of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from ftui.errors import UserError

TEXT = ["*.json", "*.jinja", "*.txt", "tokenizer.model", "LICENSE*", "README.md"]
WEIGHTS_AND_TEXT = ["*.safetensors", *TEXT]


class HubModel(NamedTuple):
    """A repository by its small files. `weights` in bytes and `parameters` are None while the Hub cannot be asked."""

    folder: Path
    commit: str
    has_safetensors: bool | None
    weights: int | None
    parameters: int | None


def look(repository: str, revision: str | None, token: str | None) -> HubModel:
    """Fetches the small files. UserError says why they cannot be had."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    with _explained(repository, revision):
        folder = Path(
            snapshot_download(repository, revision=revision, allow_patterns=TEXT, token=token, etag_timeout=10)
        )
    try:
        info = HfApi(token=token).model_info(repository, revision=revision, files_metadata=True, timeout=10)
    except (HfHubHTTPError, OSError):
        return HubModel(folder, folder.name, None, None, None)  # in the cache, and offline
    weights = [file for file in info.siblings or [] if file.rfilename.endswith(".safetensors")]
    parameters = info.safetensors.total if info.safetensors else None
    return HubModel(folder, folder.name, bool(weights), sum(file.size or 0 for file in weights), parameters)


def fetch(repository: str, revision: str | None, token: str | None) -> Path:
    """Fetches everything that loading needs. UserError says why it cannot be had."""
    from huggingface_hub import snapshot_download

    with _explained(repository, revision):
        return Path(
            snapshot_download(
                repository, revision=revision, allow_patterns=WEIGHTS_AND_TEXT, token=token, etag_timeout=10
            )
        )


@contextmanager
def _explained(repository: str, revision: str | None) -> Iterator[None]:
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        yield
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
    except (HfHubHTTPError, OSError, ValueError):
        raise UserError(
            f"{repository} is not on this machine, and the Hugging Face Hub cannot be reached. "
            "Check the network, or choose the starter or a local folder."
        ) from None
