"""What is sent to the page on purpose: it reads no file that was not uploaded, and fetches nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import gradio as gr
import pytest
from gradio.state_holder import SessionState
from gradio.utils import get_upload_folder

from tests.studio_server import StudioServer, studio_server

META = {"_type": "gradio.FileData"}
ENVIRON = {"path": "/proc/self/environ", "meta": META}
CRAFTED = [
    ENVIRON,
    {"path": "/proc/self/environ"},
    [ENVIRON],
    {"rows": [[{"file": ENVIRON}]]},
    ENVIRON | {"is_stream": True},
    ENVIRON | {"url": "http://example.org/x.csv"},
    {"path": "http://example.org/rows.csv", "meta": META},
    {"path": "file:///proc/self/environ", "meta": META},
    {"path": "https://127.0.0.1/", "url": "https://127.0.0.1/", "meta": META},
    {"path": "app.py", "meta": META},
    {"path": "../../etc/passwd", "meta": META},
    {"path": "", "meta": META},
    {"path": "\0", "meta": META},
    {"path": ["/proc/self/environ"], "meta": META},
    [{"role": "user", "content": [{"component": "file", "value": {"path": "app.py"}, "constructor_args": {}, "props": {}}]}],
]  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[StudioServer]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("cache")))
        with studio_server(tmp_path_factory.mktemp("attacked") / "runs") as running:
            yield running


@pytest.fixture(scope="module")
def crafted(server) -> list[object]:
    """Also what lies about the place of uploads itself."""
    here = Path(get_upload_folder())
    (here / "environ.csv").symlink_to("/proc/self/environ")
    around = [here, here / "environ.csv", here / "../../../proc/self/environ", here / "none.csv"]
    return [*CRAFTED, *({"path": str(path), "meta": META} for path in around)]


@pytest.fixture
def nothing_comes_into_the_cache(crafted) -> Iterator[None]:
    before = set(Path(get_upload_folder()).rglob("*"))
    yield
    assert set(Path(get_upload_folder()).rglob("*")) == before


@pytest.mark.usefixtures("nothing_comes_into_the_cache")
def test_no_input_of_any_function_takes_a_file_that_was_not_uploaded(server, crafted):
    session, others, taken = SessionState(server.studio), cycle(crafted), []

    async def attack(function, place: int, sent: object) -> None:
        data = [None] * len(function.inputs)
        data[place] = sent
        try:
            await server.studio.preprocess_data(function, data, session)
        except gr.Error:
            return
        taken.append((function.name, place, sent))

    async def attack_everything() -> None:
        for function in server.studio.fns.values():
            for place in range(len(function.inputs)):
                await attack(function, place, ENVIRON)
                await attack(function, place, next(others))

    asyncio.run(attack_everything())
    assert not taken


@pytest.mark.usefixtures("nothing_comes_into_the_cache")
@pytest.mark.parametrize("way", [StudioServer.run, StudioServer.queue, StudioServer.call])
def test_no_way_to_a_function_takes_a_file_that_was_not_uploaded(server, crafted, way):
    functions = [each for each in server.studio.fns.values() if each.fn and each.inputs]
    of_each_kind = {type(each).__name__: function for function in functions for each in function.inputs}
    for function, sent in zip(of_each_kind.values(), crafted, strict=False):
        succeeded, answer = way(server, function, [sent] * len(function.inputs))
        assert not succeeded, (function.name, sent, answer)


def test_what_was_uploaded_is_taken(server):
    file = {"files": ("rows.csv", b"text,label\nhello,good\n")}
    (path,) = server.client.post("/gradio_api/upload", files=file).json()
    keep = next(function for function in server.studio.fns.values() if function.name == "keep_uploads")
    succeeded, answer = server.queue(keep, [[{"path": path, "meta": META, "orig_name": "rows.csv"}]])
    assert succeeded, answer
    assert Path(answer["data"][0]).read_text() == "text,label\nhello,good\n"
