"""Replies and losses: the same whatever the batch, and measured where they are learned."""

import math

import pytest

from ftui.encoding import IGNORED, Encoding
from ftui.models import load_tokenizer
from ftui.replies import answer_losses, evaluating, labeled_logits, reply_batches, reply_to_all

QUESTIONS = [
    [{"role": "user", "content": text}]
    for text in ("A red lamp.", "What do you see? A small black boat.", "Tall?", "See a red, green, blue chair " * 9)
]


@pytest.fixture(scope="module")
def encoding(tiny_model):
    return Encoding(load_tokenizer(tiny_model))


@pytest.fixture(scope="module")
def model(tiny_model):
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)


def test_replies_come_in_the_order_of_the_questions_and_as_if_each_was_asked_alone(model, encoding):
    together = reply_to_all(model, encoding, QUESTIONS, 12)
    alone = [reply_to_all(model, encoding, [question], 12)[0] for question in QUESTIONS]
    assert [reply[:4] for reply in together] == [reply[:4] for reply in alone]
    assert [reply.prompt_tokens for reply in together] == [len(encoding.prompt_ids(question)) for question in QUESTIONS]
    assert len({reply.text for reply in together}) > 1


def test_a_reply_says_how_long_it_is_and_whether_it_ended_by_itself(model, encoding):
    for reply in reply_to_all(model, encoding, QUESTIONS, 3):
        assert reply.finished or reply.tokens == 3
        assert 1 <= reply.tokens <= 3 and reply.seconds > 0


def test_where_memory_runs_out_fewer_are_answered_at_once_and_none_is_lost(model, encoding, monkeypatch):
    generate, sizes = model.generate, []

    def hungry(**inputs):
        sizes.append(len(inputs["input_ids"]))
        if sizes[-1] > room:
            raise RuntimeError("CUDA out of memory.")
        return generate(**inputs)

    room = 1
    expected = reply_to_all(model, encoding, QUESTIONS, 4)
    monkeypatch.setattr(model, "generate", hungry)
    assert [reply[:4] for reply in reply_to_all(model, encoding, QUESTIONS, 4)] == [reply[:4] for reply in expected]
    assert sizes == [4, 2, 1, 1, 2, 1, 1]
    room = 0
    with pytest.raises(RuntimeError, match="out of memory"):
        reply_to_all(model, encoding, QUESTIONS, 4)


def test_questions_of_like_length_are_answered_together_as_far_as_there_is_room():
    assert reply_batches([800, 10, 600, 20], 300) == [[1, 3, 2], [0]]
    assert reply_batches([], 300) == []


def test_no_reply_is_written_after_a_wish_to_stop(model, encoding):
    assert reply_to_all(model, encoding, QUESTIONS, 3, lambda: True) == []
    assert reply_to_all(model, encoding, [], 3) == []


def test_the_loss_is_the_mean_over_the_learned_tokens_alone(model, encoding):
    import torch

    examples = encoding.encode([[*question, {"role": "assistant", "content": "red lamp"}] for question in QUESTIONS])
    for example, loss in zip(examples, answer_losses(model, examples), strict=True):
        ids, labels = torch.tensor([example.input_ids]), torch.tensor([example.labels])
        assert math.isclose(loss, model(input_ids=ids, labels=labels).loss.item(), rel_tol=1e-4)
        logits, tokens = labeled_logits(model, example)
        assert len(logits) == len(tokens) == example.trained
        assert tokens.tolist() == [label for label in example.labels if label != IGNORED]


def test_looking_at_a_model_leaves_its_mode_as_it_was(model):
    import torch

    for mode in (True, False):
        model.train(mode)
        with pytest.raises(ValueError), evaluating(model):
            assert not model.training and not torch.is_grad_enabled()
            raise ValueError
        assert model.training is mode and torch.is_grad_enabled()


def test_progress_counts_up_to_all_rows_and_a_stop_takes_effect_in_the_middle_of_a_batch(model, encoding):
    questions = [[{"role": "user", "content": f"What is {n}?"}] for n in range(3)]
    counted: list[float] = []
    assert len(reply_to_all(model, encoding, questions, 8, progress=counted.append)) == 3
    assert counted == sorted(counted) and counted[-1] == 3 and 0 < counted[0] < 1
    stopping: list[float] = []
    assert reply_to_all(model, encoding, questions, 64, lambda: len(stopping) >= 2, stopping.append) == []
    assert len(stopping) == 2, "the third token is never written"
