"""Rows of a data set on the Hugging Face Hub. Never runs code of the data set."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ftui.dataset.rows import Note
from ftui.errors import UserError
from ftui.hub import hub_api

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)


def is_hub_id(path: str) -> bool:
    return bool(_ID.fullmatch(path)) and ".." not in path and "--" not in path


def read_hub(
    path: str, name: str | None, split: str, revision: str | None, limit: int | None
) -> Iterator[pa.Table | Note]:
    """Tables of rows. With a limit only as much is fetched as is needed, unless `split` is a slice."""
    import datasets

    streaming = limit is not None and "[" not in split
    try:
        loaded = _copy(path, name, split, revision) if is_hub_id(path) else None
        if loaded is None:
            loaded = datasets.load_dataset(path, name, split=split, revision=revision, streaming=streaming)
        else:
            yield Note(f"{path}: the Hub cannot be reached; these are the rows that this machine has kept of it.")
        features = loaded.features or {}
        labels = {
            column: feature.names for column, feature in features.items() if isinstance(feature, datasets.ClassLabel)
        }
        for column in labels:
            yield Note(f"{path}: the numbers in “{column}” were replaced with the names of the labels.")
        for table in loaded.with_format("arrow").iter(batch_size=min(limit or 1_000, 1_000)):
            yield _named(table, labels)
    except UserError:
        raise
    except Exception as error:  # whatever the network, the Hub and the file readers raise
        raise UserError(sentence(error, path, split)) from None


def _copy(path: str, name: str | None, split: str, revision: str | None) -> datasets.Dataset | None:
    """The rows that an earlier reading left on this machine, where the Hub does not help; None where it does.

    The Hub is asked one question with a time limit: `datasets` itself would go on asking for half a minute.
    """
    from datasets.packaged_modules.cache.cache import Cache
    from httpx2 import HTTPError
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    try:
        hub_api().dataset_info(path, revision=revision, timeout=10)
    except (RepositoryNotFoundError, RevisionNotFoundError):
        raise
    except (HTTPError, OSError) as error:
        try:
            kept = Cache(repo_id=path, dataset_name=path.split("/")[1], config_name=name, version="auto", hash="auto")
        except ValueError:
            raise error from None
        if revision not in (None, kept.hash):
            raise
        return kept.as_dataset(split)
    return None


def _named(table: pa.Table, labels: dict[str, list[str]]) -> pa.Table:
    """Label numbers as the names they stand for: a language model answers in words."""
    import pyarrow as pa

    for column, names in labels.items():
        numbers = table[column].to_pylist()
        words = [names[number] if number is not None and 0 <= number < len(names) else None for number in numbers]
        table = table.set_column(table.column_names.index(column), column, pa.array(words, pa.string()))
    return table


def sentence(error: BaseException, path: str, split: str) -> str:
    """What went wrong at the Hub, and what to do; made from the error's own words, for its classes differ by the way it took."""
    said, link = [], error
    while link is not None and len(said) < 10:
        said.append(re.sub(r"hf_[A-Za-z0-9]{8,}", "hf_…", " ".join(f"{type(link).__name__}: {link}".split())))
        link = link.__cause__ or link.__context__
    for pattern, answer in _SENTENCES:
        if re.search(pattern, " ".join(said), re.IGNORECASE):
            return answer.format(path=path, split=split, detail=_detail(" ".join(said)))
    where = re.compile(r"(?<![\w:/])/(?:[\w.-]+/)+")  # folders of this machine
    # DatasetGenerationError only wraps another one.
    told = next((each for each in said if not each.startswith("DatasetGenerationError")), said[0])
    return f"The data set {path} cannot be loaded: {where.sub('', told)[:200]}"


def _detail(said: str) -> str:
    """The list of splits or configs that the library offers instead, if its words hold one."""
    found = re.search(r"\[[^\]]{1,300}\]", said)
    return f" There are: {found[0].strip('[]')}." if found else ""


_SENTENCES = (
    (
        r"trust_remote_code|dataset scripts? (are|is) no longer|loading script",
        "The data set {path} needs its own code to load, and ftui never runs such code. Use a Parquet copy of it, or upload files.",
    ),
    (
        r"Invalid credentials|UnicodeEncodeError|Illegal header",
        "The Hub does not accept the token in HF_TOKEN, so {path} cannot be loaded. Set a valid one, or unset it.",
    ),
    (
        r"GatedRepo|is a gated|ask for access|awaiting a review|\b403\b",
        "The data set {path} is gated or private. Accept its terms at huggingface.co/datasets/{path}, then set HF_TOKEN to a token of that account.",
    ),
    (
        r"Server error '5|Too Many Requests",
        "The Hub does not serve {path} just now. Try again in some minutes, or use a file.",
    ),
    (
        r"Offline|ConnectionError|ConnectError|Couldn't reach|Max retries|timed? ?out|Name or service|LocalEntryNotFound|"
        r"Network is unreachable|Server disconnected|proxy",
        "The Hub cannot be reached, so {path} cannot be loaded. Check the network, or use a file.",
    ),
    (
        r"Config name is missing|BuilderConfig",
        "The data set {path} needs another config.{detail} Write one of them under “name”.",
    ),
    (r"Unknown split|Bad split|Instruction", "The data set {path} has no split “{split}”.{detail}"),
    (
        r"RevisionNotFound|Revision '",
        "The data set {path} has no such revision. Leave it empty for the newest.",
    ),
    (
        r"DatasetNotFound|RepositoryNotFound|doesn't exist|\b40[14]\b|DataFilesNotFound|EmptyDataset",
        "There is no data set {path} on the Hub, or it is private, or it holds no files that can be read. "
        "Check its name at huggingface.co/datasets; for a private one set HF_TOKEN.",
    ),
)
