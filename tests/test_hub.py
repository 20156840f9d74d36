"""Models and data sets on a Hub in memory: what is fetched, what is refused before anything large is, what failures say.

The Hub's address and token are read when its library is imported, so ftui works in a process of its own here.
"""

import json
import multiprocessing
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ftui.config import RunConfig
from ftui.dataset import DatasetSource
from ftui.device import Lease
from ftui.errors import UserError
from ftui.loop import carry_out
from ftui.models import describe, load_model, load_tokenizer, model_folder, origin
from ftui.models.facts import ModelFacts
from ftui.runs import RunStore
from tests import tiny
from tests.fake_hub import READER, FakeHub

SECONDS = 15  # a person waits no longer than this for a sentence
CARD = b"---\nlicense: mit\n---\n# Tiny\n"
CONFIGS = b"""---
configs:
- config_name: english
  data_files: en/*.jsonl
- config_name: spanish
  data_files: es/*.jsonl
---
"""


class Client:
    """A process that knows one Hub and one cache. `client(function, ...)` runs the function there."""

    def __init__(self, address: str, home: Path, **environment: str) -> None:
        values = {"HF_ENDPOINT": address, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0", **environment}
        values |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        self.pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=_set, initargs=(values,))

    def __call__(self, function: Callable, *arguments: Any, token: str | None = None) -> Any:
        return self.pool.submit(_with_token, token, function, *arguments).result(120)

    def refusal(self, function: Callable, *arguments: Any, token: str | None = None) -> str:
        """What a person is told: sentences on one line, in time, without a token, a folder or an address."""
        began = time.monotonic()
        with pytest.raises(UserError) as caught:
            self(function, *arguments, token=token)
        said = str(caught.value)
        assert time.monotonic() - began < SECONDS
        assert said.endswith(".") and "\n" not in said and "hf_" not in said and "Error" not in said
        assert "/tmp" not in said and "127.0.0.1" not in said
        return said


def _set(values: dict[str, str]) -> None:
    os.environ.pop("HF_TOKEN", None)
    os.environ.update(values)


def _with_token(token: str | None, function: Callable, *arguments: Any) -> Any:
    if token is None:
        return function(*arguments)
    os.environ["HF_TOKEN"] = token
    try:
        return function(*arguments)
    finally:
        del os.environ["HF_TOKEN"]


# what runs in the client's process


def fetched(name: str, revision: str | None = None) -> Path:
    return model_folder(name, revision, report=_silent)


def described(name: str, revision: str | None = None) -> ModelFacts:
    return describe(name, revision, report=_silent)


def fetched_and_loaded(name: str) -> tuple[int, list[int], str]:
    folder = fetched(name)
    parameters = sum(parameter.numel() for parameter in load_model(folder).parameters())
    return parameters, load_tokenizer(folder).encode("A red lamp."), origin(name, folder)


def rows_of(**source: Any) -> list[dict]:
    return list(DatasetSource(**source).load())


def notes_of(**source: Any) -> tuple[str, ...]:
    return DatasetSource(**source).load().notes


def whole_loop(values: dict, folder: Path) -> tuple[str, str, list[str]]:
    run = RunStore(folder).create(RunConfig.parse(values))
    state = carry_out(run, Lease())
    card = run.path / "README.md"
    return state, card.read_text() if card.is_file() else "", [event.message for event in run.events()]


def told_in_time(name: str) -> tuple[str, float]:
    began = time.monotonic()
    with pytest.raises(UserError) as caught:
        fetched(name)
    return str(caught.value), time.monotonic() - began


def _silent(sentence: str) -> None:
    pass


# the Hub and its clients


@pytest.fixture(scope="module")
def files(tiny_model) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in tiny_model.iterdir()} | {"README.md": CARD}


@pytest.fixture(scope="module")
def hub(files) -> Iterator[FakeHub]:
    hub = FakeHub()
    for name in ("lamp", "boat", "loop", "seen", "unreached", "fault", "half", "line"):
        hub.publish(f"tiny/{name}", files)
    hub.publish("tiny/private", files, private=True)
    hub.publish("tiny/gated", files, gated=True)
    with hub.running():
        yield hub


@pytest.fixture(scope="module")
def new_client(tmp_path_factory) -> Iterator[Callable[..., Client]]:
    made: list[Client] = []
    home = tmp_path_factory.mktemp("home")

    def new(address: str, home: Path = home, **environment: str) -> Client:
        made.append(Client(address, home, **environment))
        return made[-1]

    yield new
    for client in made:
        client.pool.shutdown(wait=False)


@pytest.fixture(scope="module", autouse=True)
def asked_in_vain(new_client, tmp_path_factory) -> Iterator[Future]:
    """What a Hub that takes a call and never answers leads to; begun first, as it takes its ten seconds."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(20)
        client = new_client(_address(silent), tmp_path_factory.mktemp("other-home"))
        yield client.pool.submit(told_in_time, "tiny/lamp")


@pytest.fixture(scope="module")
def client(hub, new_client) -> Client:
    return new_client(hub.url)


@pytest.fixture(scope="module")
def offline(new_client) -> Client:
    """With the cache of `client`, at an address where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = _address(free)
    return new_client(address)


def _address(listening: socket.socket) -> str:
    return f"http://127.0.0.1:{listening.getsockname()[1]}"


def changed_config(files: dict[str, bytes], **values: object) -> dict[str, bytes]:
    return files | {"config.json": json.dumps(json.loads(files["config.json"]) | values).encode()}


def lines(count: int, first: int = 0) -> bytes:
    return "".join(json.dumps({"text": f"row {number}"}) + "\n" for number in range(first, first + count)).encode()


# models


def test_a_hub_model_is_described_from_its_small_files_then_fetched_and_loaded(hub, client, files):
    facts = client(described, "tiny/lamp")
    commit = hub.repositories["models", "tiny/lamp"].branches["main"]
    assert not hub.asked("tiny/lamp/resolve/" + commit + "/model.safetensors")
    assert facts.problem is None and facts.architecture == "LlamaForCausalLM" and facts.context == 512
    assert facts.license == "mit" and facts.chat_template and facts.weights == len(files["model.safetensors"])
    assert facts.origin == f"tiny/lamp from the Hugging Face Hub, commit {commit[:12]}"

    parameters, tokens, source = client(fetched_and_loaded, "tiny/lamp")
    assert parameters == facts.parameters and tokens and source == facts.origin
    assert len(hub.asked(f"tiny/lamp/resolve/{commit}/model.safetensors")) == 1


def test_what_is_fetched_once_is_not_fetched_again(hub, client):
    folder = client(fetched, "tiny/boat")
    before = len(hub.asked("tiny/boat/resolve"))
    assert before and client(fetched, "tiny/boat") == folder
    assert len(hub.asked("tiny/boat/resolve")) == before


def test_a_second_copy_of_the_weights_is_neither_fetched_nor_counted(hub, client, files):
    weights = files["model.safetensors"]
    hub.publish("tiny/twice", files | {"consolidated.safetensors": weights, "original/model.safetensors": weights})
    assert client(described, "tiny/twice").weights == len(weights)
    folder = client(fetched, "tiny/twice")
    assert [path.relative_to(folder).as_posix() for path in folder.rglob("*.safetensors")] == ["model.safetensors"]


def test_a_revision_is_honored(hub, client, files):
    first = hub.publish("tiny/pinned", changed_config(files, max_position_embeddings=64))
    hub.publish("tiny/pinned", changed_config(files, max_position_embeddings=32), branch="short/one")
    newest = hub.publish("tiny/pinned", files)
    contexts = {name: client(described, "tiny/pinned", name).context for name in (None, first, "short/one")}
    assert contexts == {None: 512, first: 64, "short/one": 32}
    assert client(fetched, "tiny/pinned", first).name == first and client(fetched, "tiny/pinned").name == newest


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("bert", {"model_type": "bert", "architectures": ["BertForMaskedLM"]}, "not a causal language model"),
        ("code", {"model_type": "mine", "auto_map": {"AutoModelForCausalLM": "code.M"}}, "code of its own"),
        ("gptq", {"quantization_config": {"quant_method": "gptq", "bits": 4}}, "already quantized"),
        ("bin", {}, "no .safetensors weights"),
        ("empty", None, "no config.json"),
    ],
)
def test_what_cannot_be_tuned_is_refused_before_anything_large_is_fetched(hub, client, files, name, change, words):
    repository = f"refused/{name}"
    content = changed_config(files, **change) if change is not None else {"README.md": CARD}
    if name == "bin":
        content["pytorch_model.bin"] = content.pop("model.safetensors")
    hub.publish(repository, content)
    said = client.refusal(fetched, repository)
    assert words in said and repository in said
    assert words in client(described, repository).problem
    assert not [each for each in hub.asked(repository) if re.search(r"\.(safetensors|bin|py)$", each.path)]


@pytest.mark.parametrize("function", [described, fetched])
@pytest.mark.parametrize(
    ("name", "revision", "words"),
    [
        ("tiny/missing", None, r"There is no model tiny/missing on the Hub, or it is private\. Check the spelling"),
        ("tiny/private", None, r"no model tiny/private on the Hub, or it is private\..* set HF_TOKEN"),
        ("tiny/gated", None, "tiny/gated is gated: accept its terms"),
        ("tiny/lamp", "nope", "tiny/lamp has no revision “nope”. Leave it empty"),
        ("tiny/lamp", "0" * 40, "tiny/lamp has no revision “000"),
        ("tiny--lamp", None, "neither a folder nor a Hub id"),
    ],
)
def test_a_model_that_cannot_be_had_is_told_in_a_sentence(client, function, name, revision, words):
    assert re.search(words, client.refusal(function, name, revision))


def test_a_token_is_sent_and_opens_what_is_private(hub, client):
    assert client.refusal(fetched, "tiny/private")
    began = len(hub.log)
    assert client(fetched, "tiny/private", token=READER).is_dir()
    asked = [each for each in hub.log[began:] if "tiny/private" in each.path]
    assert asked and {each.token for each in asked} == {READER}


def test_a_token_from_a_file_with_a_line_break_at_its_end_is_sent_as_it_is_meant(client):
    assert client(described, "tiny/private", token=READER + "\n").problem is None


def test_terms_that_this_token_has_not_accepted_are_told(client):
    assert "gated: accept its terms" in client.refusal(fetched, "tiny/gated", token=READER)


@pytest.mark.parametrize("token", ["hf_expiredExpiredExpired", "hf_with a blank", "hf_ñandú"])
def test_a_token_that_the_hub_refuses_is_told_without_saying_it(client, token):
    for function, arguments in ((fetched, ("tiny/line",)), (partial(rows_of, path="tiny/none"), ())):
        said = client.refusal(function, *arguments, token=token)
        assert "HF_TOKEN" in said and "expired" not in said and "blank" not in said and "ñandú" not in said


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (500, r"error of its own \(500\)\. Try again"),
        (503, r"\(503\)\. Try again"),
        (429, "too many requests.*Wait"),
        (403, "not accept HF_TOKEN"),
    ],
)
def test_a_hub_that_refuses_is_told_with_what_to_do(hub, client, status, words):
    hub.faults["tiny/fault"] = status
    try:
        assert re.search(words, client.refusal(fetched, "tiny/fault"))
    finally:
        del hub.faults["tiny/fault"]


def test_a_hub_that_fails_halfway_is_told_and_the_next_try_succeeds(hub, client):
    assert client(described, "tiny/half").problem is None
    hub.faults["/model.safetensors"] = 404
    try:
        assert "tiny/half" in client.refusal(fetched, "tiny/half")
    finally:
        del hub.faults["/model.safetensors"]
    assert (client(fetched, "tiny/half") / "model.safetensors").is_file()


@pytest.mark.true
def test_a_hub_that_dies_in_the_middle_of_a_file_is_told_and_the_next_try_goes_on(files, new_client, tmp_path):
    hub = FakeHub()
    hub.publish("tiny/dying", files)
    hub.publish("set/dying", {"train.jsonl": lines(20_000)}, "datasets")
    with hub.running():
        client = new_client(hub.url, tmp_path / "home")
        assert client(described, "tiny/dying").problem is None
        hub.dies_at = "model.safetensors"
        assert "tiny/dying is not on this machine, and the Hugging Face Hub cannot be reached" in client.refusal(
            fetched, "tiny/dying"
        )
    port = int(hub.url.rpartition(":")[2])
    hub.dies_at = None
    with hub.running(port):
        assert (client(fetched, "tiny/dying") / "model.safetensors").read_bytes() == files["model.safetensors"]
        hub.dies_at = "train.jsonl"
        assert "Hub cannot be reached" in client.refusal(partial(rows_of, path="set/dying"))
    hub.dies_at = None
    with hub.running(port):
        assert len(client(partial(rows_of, path="set/dying"))) == 20_000


def test_without_the_hub_a_model_that_is_not_here_is_told(offline):
    for function in (fetched, described):
        said = offline.refusal(function, "tiny/unreached")
        assert "tiny/unreached is not on this machine, and the Hugging Face Hub cannot be reached." in said


def test_a_model_in_the_cache_works_without_the_hub(client, offline):
    folder = client(fetched, "tiny/lamp")
    assert offline(fetched, "tiny/lamp") == folder == offline(fetched, "tiny/lamp", folder.name)
    assert offline(described, "tiny/lamp").problem is None


def test_of_a_model_that_was_only_looked_at_the_rest_is_missed_without_the_hub(client, offline):
    seen, again = client(described, "tiny/seen"), offline(described, "tiny/seen")
    assert again.problem is None and again.weights == seen.weights and again.origin == seen.origin
    assert "tiny/seen is not on this machine" in offline.refusal(fetched, "tiny/seen")


@pytest.mark.true
def test_a_library_that_is_told_to_stay_offline_is_no_fault(hub, client, new_client):
    folder = client(fetched, "tiny/lamp")
    told = new_client(hub.url, HF_HUB_OFFLINE="1")
    assert told(fetched, "tiny/lamp") == folder
    assert "tiny/unreached is not on this machine" in told.refusal(fetched, "tiny/unreached")
    assert "cannot be reached" in told.refusal(partial(rows_of, path="tiny/rows"))


def test_a_cache_that_cannot_be_written_is_not_blamed_on_the_network(hub, new_client, tmp_path):
    (tmp_path / "file").write_text("no folder")
    said = new_client(hub.url, tmp_path / "file").refusal(fetched, "tiny/lamp")
    assert "cannot be saved on this machine" in said and "HF_HOME" in said


def test_a_hub_that_never_answers_is_given_up_in_time(asked_in_vain):
    said, seconds = asked_in_vain.result(60)
    assert "cannot be reached" in said and seconds < SECONDS


# data sets


@pytest.fixture(scope="module")
def data(hub) -> FakeHub:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    rows = {"README.md": b"# Rows\n", "data/train.jsonl": lines(10), "data/test.jsonl": lines(3, 50)}
    hub.publish("set/rows", rows, "datasets", branch="old")
    hub.publish("set/rows", rows | {"data/train.jsonl": lines(20, 100)}, "datasets")
    hub.publish("set/Kept", rows, "datasets")
    hub.publish("set/words", {"README.md": CONFIGS, "en/a.jsonl": lines(2), "es/a.jsonl": lines(3, 30)}, "datasets")
    hub.publish("set/private", rows, "datasets", private=True)
    hub.publish("set/gated", rows, "datasets", gated=True)
    hub.publish("set/none", {"README.md": b"# Nothing\n"}, "datasets")
    hub.publish("set/code", {"code.py": b"raise SystemExit('the code of the data set ran')"}, "datasets")
    hub.publish("set/broken", {"train.jsonl": b'{"text": "a"}\n{"text": \n'}, "datasets")
    hub.publish("set/fault", rows, "datasets")
    shards = {}
    for number in range(4):
        sink = pa.BufferOutputStream()
        parquet.write_table(pa.table({"text": [f"shard {number}, row {row}" for row in range(1000)]}), sink)
        shards[f"data/train-{number:05}-of-00004.parquet"] = sink.getvalue().to_pybytes()
    hub.publish("set/shards", shards, "datasets")
    return hub


@pytest.mark.parametrize(
    ("source", "first", "count"),
    [
        ({"path": "set/rows"}, "row 100", 20),
        ({"path": "set/rows", "split": "test"}, "row 50", 3),
        ({"path": "set/rows", "split": "train[5:9]"}, "row 105", 4),
        ({"path": "set/rows", "revision": "old"}, "row 0", 10),
        ({"path": "set/rows", "limit": 7}, "row 100", 7),
        ({"path": "set/rows", "revision": "old", "split": "test", "limit": 1}, "row 50", 1),
        ({"path": "set/words", "name": "spanish"}, "row 30", 3),
        ({"path": "set/words", "name": "english", "limit": 1}, "row 0", 1),
        ({"path": "set/shards", "split": "train[:1%]"}, "shard 0, row 0", 40),
    ],
)
def test_a_hub_data_set_is_read_with_its_split_config_revision_and_limit(data, client, source, first, count):
    rows = client(partial(rows_of, **source))
    assert rows[0] == {"text": first} and len(rows) == count


def test_with_a_limit_only_the_files_that_are_needed_are_fetched(data, client):
    before = len(data.log)
    assert len(client(partial(rows_of, path="set/shards", limit=1500))) == 1500
    touched = {each.path[-22:-8] for each in data.log[before:] if each.path.endswith(".parquet")}
    assert touched == {"00000-of-00004", "00001-of-00004"}


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"path": "set/missing"}, "There is no data set set/missing on the Hub, or it is private"),
        ({"path": "set/missing", "revision": "v1"}, "There is no data set set/missing on the Hub"),
        ({"path": "set/private"}, "no data set set/private on the Hub, or it is private.*set HF_TOKEN"),
        ({"path": "set/gated"}, "set/gated is gated or private. Accept its terms"),
        ({"path": "set/rows", "revision": "nope"}, "set/rows has no such revision. Leave it empty"),
        ({"path": "set/rows", "split": "nope"}, "no split “nope”. There are: 'test', 'train'|'train', 'test'"),
        ({"path": "set/rows", "split": "nope", "limit": 1}, "no split “nope”. There are"),
        ({"path": "set/words"}, "needs another config. There are: 'english', 'spanish'. Write one"),
        ({"path": "set/words", "name": "french"}, "There are: 'english', 'spanish'"),
        ({"path": "set/none"}, "holds no files that can be read"),
        ({"path": "set/code"}, "ftui never runs such code"),
    ],
)
def test_a_data_set_that_cannot_be_had_is_told_in_a_sentence(data, client, source, words):
    assert re.search(words, client.refusal(partial(rows_of, **source)))


def test_a_broken_file_in_a_data_set_is_told_with_its_reason(data, client):
    with pytest.raises(UserError, match="set/broken cannot be loaded: .*JSON parse error.* row 1"):
        client(partial(rows_of, path="set/broken"))


@pytest.mark.parametrize(("status", "words"), [(500, "not serve set/fault just now. Try again"), (429, "Try again")])
def test_a_hub_that_does_not_serve_a_data_set_is_told(data, client, status, words):
    data.faults["set/fault"] = status
    try:
        for limit in (None, 2):
            assert words in client.refusal(partial(rows_of, path="set/fault", limit=limit))
    finally:
        del data.faults["set/fault"]


def test_a_token_opens_a_private_data_set(data, client):
    began = len(data.log)
    assert len(client(partial(rows_of, path="set/private"), token=READER)) == 10
    assert {each.token for each in data.log[began:] if "set/private" in each.path} == {READER}


@pytest.mark.parametrize("limit", [None, 2])
def test_a_data_set_needs_the_hub_unless_it_was_read_before(data, client, offline, limit):
    assert "cannot be reached" in offline.refusal(partial(rows_of, path="set/Unread", limit=limit))
    rows = client(partial(rows_of, path="set/Kept"))
    began = time.monotonic()
    assert offline(partial(rows_of, path="set/Kept", limit=limit)) == rows[:limit]
    assert time.monotonic() - began < SECONDS


def test_without_the_hub_another_revision_than_the_kept_one_is_not_passed_off_as_it(data, client, offline):
    kept = data.repositories["datasets", "set/Kept"].branches["main"]
    rows = client(partial(rows_of, path="set/Kept"))
    assert offline(partial(rows_of, path="set/Kept", revision=kept)) == rows
    assert "cannot be reached" in offline.refusal(partial(rows_of, path="set/Kept", revision="0" * 40))


def test_rows_from_a_kept_copy_are_marked_as_such(data, client, offline):
    client(partial(rows_of, path="set/Kept"))
    assert any("has kept of it" in note for note in offline(partial(notes_of, path="set/Kept")))
    assert not client(partial(notes_of, path="set/Kept"))


# the whole loop


@pytest.mark.true
def test_a_run_on_a_hub_model_and_a_hub_data_set_goes_through_to_its_end(hub, client, tmp_path, tiny_model):
    content = "".join(json.dumps(row) + "\n" for row in tiny.rows())
    hub.publish("set/lamps", {"train.jsonl": content.encode()}, "datasets")
    values = tiny.values(tiny_model, tmp_path)
    values |= {"base_model": "tiny/loop", "dataset": {"path": "set/lamps"}}
    values["training"] |= {"max_steps": 2, "eval_steps": 2}
    state, card, messages = client(whole_loop, values, tmp_path / "runs")
    commit = hub.repositories["models", "tiny/loop"].branches["main"]
    assert state == "done", messages[-1]
    assert "base_model: tiny/loop" in card and f"commit {commit[:12]}" in card
    assert any("Fetching tiny/loop" in message for message in messages)


def test_a_run_that_cannot_have_its_base_model_ends_as_failed_with_the_sentence(client, config, tmp_path):
    values = config.model_dump(mode="json") | {"base_model": "tiny/missing"}
    state, _, messages = client(whole_loop, values, tmp_path / "runs")
    assert state == "failed" and "There is no model tiny/missing on the Hub" in messages[-1]
