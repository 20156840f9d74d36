"""chat: the loaded model is asked exactly as it was trained, streams, stops, and gives way."""

import shutil
import threading
from types import SimpleNamespace

import pytest

from ftui.chat import ChatModel, ChatSettings, Said, Speaker, chat_encoding, load_for_chat, stream_reply
from ftui.device import Lease
from ftui.errors import UserError
from ftui.replies import reply_to_all
from ftui.settings import checked

GREEDY = ChatSettings(max_new_tokens=12)
MESSAGES = [{"role": "system", "content": "Look."}, {"role": "user", "content": "What do you see? A red lamp."}]


@pytest.fixture(scope="module")
def merged(finished_run):
    return load_for_chat(Speaker(finished_run, "merged"))


def test_a_reply_grows_and_ends_as_the_greedy_reply(merged):
    model, encoding = merged
    pieces = [said.words for said in stream_reply(model, encoding, MESSAGES, GREEDY, threading.Event())]
    assert all(after.startswith(before) for before, after in zip(pieces, pieces[1:], strict=False))
    assert pieces[-1] == reply_to_all(model, encoding, [MESSAGES], 12)[0].text


def test_the_model_is_asked_with_the_very_text_that_training_rows_began_with(finished_run):
    encoding = chat_encoding(finished_run)
    row = finished_run.config.dataset.load()[0]
    messages = finished_run.config.template.render(row)
    turn = finished_run.config.template.turn(row["text"])
    assert turn == messages[:-1]
    example = encoding.encode([messages])[0]
    asked = encoding.prompt_ids(turn)
    assert example.input_ids[: len(asked)] == asked and example.labels[len(asked)] != -100


def test_sampling_is_varied_and_greedy_is_not(merged):
    model, encoding = merged

    def last(settings: ChatSettings) -> str:
        return list(stream_reply(model, encoding, MESSAGES, settings, threading.Event()))[-1].words

    warm = ChatSettings(temperature=2, top_p=1, max_new_tokens=12)
    assert len({last(warm) for _ in range(4)}) > 1
    assert last(GREEDY) == last(GREEDY)


def test_a_reply_stops_when_somebody_wishes_it_and_leaves_no_thread_behind(merged):
    model, encoding = merged
    stop = threading.Event()
    threads = threading.active_count()
    stop.set()
    before = list(stream_reply(model, encoding, MESSAGES, ChatSettings(max_new_tokens=400), stop))
    assert len(encoding.tokenizer(before[-1].words)["input_ids"]) <= 2
    stream = stream_reply(
        model, encoding, MESSAGES, ChatSettings(max_new_tokens=400, temperature=2, top_p=1), stop2 := threading.Event()
    )
    next(stream)
    stream.close()
    assert stop2.is_set() and threading.active_count() <= threads


def test_a_reply_that_comes_to_its_limit_is_cut_and_one_that_ends_at_it_is_not(merged):
    model, encoding = merged

    def last(stop_token_ids: list[int], longest: int) -> Said:
        asked = SimpleNamespace(
            prompt_ids=encoding.prompt_ids, tokenizer=encoding.tokenizer, stop_token_ids=stop_token_ids
        )
        settings = ChatSettings(max_new_tokens=longest)
        return list(stream_reply(model, asked, MESSAGES, settings, threading.Event()))[-1]

    never, always = [len(encoding.tokenizer) + 7], list(range(model.config.vocab_size))
    assert last(never, 3).is_cut
    assert not last(always, 3).is_cut and not last(always, 1).is_cut


def test_while_the_model_answers_somebody_another_is_told_so(finished_run):
    chat = ChatModel(Lease())
    first = chat.stream(Speaker(finished_run, "merged"), MESSAGES, GREEDY, threading.Event())
    next(first)
    with pytest.raises(UserError, match="in another window"):
        next(chat.stream(Speaker(finished_run, "merged"), MESSAGES, GREEDY, threading.Event()))
    first.close()
    next(chat.stream(Speaker(finished_run, "merged"), MESSAGES, GREEDY, threading.Event()))


def test_a_conversation_longer_than_the_model_can_read_is_told(merged):
    model, encoding = merged
    with pytest.raises(UserError, match="longer than the 512"):
        list(stream_reply(model, encoding, MESSAGES, ChatSettings(max_new_tokens=500), threading.Event()))


def test_a_failure_while_writing_comes_out_where_the_reply_is_read(merged):
    model, encoding = merged
    out_of_vocabulary = encoding.tokenizer.vocab_size + 5000
    broken = type(
        "Broken",
        (),
        {
            "prompt_ids": lambda self, messages: [out_of_vocabulary],
            "tokenizer": encoding.tokenizer,
            "stop_token_ids": encoding.stop_token_ids,
        },
    )()
    with pytest.raises((IndexError, RuntimeError)):
        list(stream_reply(model, broken, MESSAGES, GREEDY, threading.Event()))


def test_base_adapter_and_merged_are_three_ways_to_one_run(finished_run):
    import torch

    logits = {}
    for which in ("base", "adapter", "merged"):
        model, encoding = load_for_chat(Speaker(finished_run, which))
        assert not model.training
        with torch.no_grad():
            logits[which] = model(torch.tensor([encoding.prompt_ids(MESSAGES)])).logits.float()
    assert (logits["adapter"] - logits["merged"]).abs().max() < 0.1
    assert (logits["adapter"] - logits["base"]).abs().max() > 0.3


def test_one_model_is_loaded_at_a_time_and_kept_for_the_next_reply(finished_run):
    chat = ChatModel(Lease())
    list(chat.stream(Speaker(finished_run, "merged"), MESSAGES, GREEDY, threading.Event()))
    first = chat._loaded
    list(chat.stream(Speaker(finished_run, "merged"), MESSAGES, GREEDY, threading.Event()))
    assert chat._loaded is first
    list(chat.stream(Speaker(finished_run, "base"), MESSAGES, GREEDY, threading.Event()))
    assert chat._loaded is not first and chat._loaded.key[1] == "base"
    chat.unload()
    assert chat._loaded is None


def test_a_run_that_is_trained_or_merged_again_is_loaded_again(run_to_change):
    chat = ChatModel(Lease())
    list(chat.stream(Speaker(run_to_change, "merged"), MESSAGES, GREEDY, threading.Event()))
    first = chat._loaded
    with run_to_change.new_folder("merged") as folder:
        shutil.copytree(run_to_change.merged_dir, folder, dirs_exist_ok=True)
    list(chat.stream(Speaker(run_to_change, "merged"), MESSAGES, GREEDY, threading.Event()))
    assert chat._loaded is not first


def test_while_somebody_trains_the_chat_says_who_has_the_accelerator(finished_run):
    lease = Lease()
    with lease.held_by("run 7"), pytest.raises(UserError, match="busy: run 7"):
        list(ChatModel(lease).stream(Speaker(finished_run, "merged"), MESSAGES, GREEDY, threading.Event()))


def test_a_reply_that_nobody_reads_to_its_end_gives_the_accelerator_back(finished_run):
    lease = Lease()
    stream = ChatModel(lease).stream(
        Speaker(finished_run, "merged"), MESSAGES, ChatSettings(max_new_tokens=200), threading.Event()
    )
    next(stream)
    assert lease.holder == "the chat"
    stream.close()
    assert lease.holder is None


def test_what_is_not_there_yet_is_told(config, store, run_to_change):
    shutil.rmtree(run_to_change.merged_dir)
    with pytest.raises(UserError, match="no merged model yet"):
        load_for_chat(Speaker(run_to_change, "merged"))
    with pytest.raises(UserError, match="has no adapter"):
        load_for_chat(Speaker(store.create(config), "adapter"))
    model, encoding = load_for_chat(Speaker(store.create(config), "base"))
    assert encoding.prompt(MESSAGES).endswith("<|im_start|>assistant\n")


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json"])
@pytest.mark.parametrize("contents", [b"", b"\xff{half", b"[1]", None])
def test_an_adapter_that_is_broken_is_told(run_to_change, name, contents):
    path = run_to_change.adapter_dir / name
    path.unlink() if contents is None else path.write_bytes(contents)
    with pytest.raises(UserError, match="The adapter in adapter of run .* cannot be read: .* train it again"):
        load_for_chat(Speaker(run_to_change, "adapter"))


@pytest.mark.parametrize(
    "wrong", [{"temperature": -1}, {"temperature": 3}, {"top_p": 0}, {"max_new_tokens": 0}, {"top_k": 5}]
)
def test_settings_out_of_bounds_are_told(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        checked(ChatSettings, wrong)


def test_what_the_page_says_of_a_reply_is_told_to_no_model(finished_run):
    pytest.importorskip("gradio")
    from ftui.ui.chat_tab.replies import _messages, _note

    shown = [
        {"role": "user", "content": "A red lamp."},
        _note("merged"),
        {"role": "assistant", "content": [{"type": "text", "text": "red lamp"}]},
        _note("cut at 8 tokens"),
        {"role": "user", "content": "And now?"},
    ]
    messages = _messages(finished_run, shown, "Look.", remember=True, boxes=[])
    assert [message["content"] for message in messages] == ["Look.", "A red lamp.", "red lamp", "And now?"]
