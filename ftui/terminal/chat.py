"""chat: replies of a run's model to prompts, or a conversation."""

from __future__ import annotations

import argparse
import threading
from collections.abc import Callable
from typing import Any

from ftui.errors import UserError
from ftui.terminal.arguments import Commands, add_checkpoint, add_command, add_run

Found = dict[str, Any]


def add_chat(commands: Commands) -> None:
    added = add_command(commands, "chat", chat, "replies of a run's model; without a prompt, a conversation")
    add_run(added)
    add_checkpoint(added, "ask the adapter of")
    added.add_argument("--prompt", action="append", default=[], metavar="TEXT")
    of_template = "a value for the prompt template"
    added.add_argument("--column", action="append", default=[], metavar="NAME=VALUE", help=of_template)
    added.add_argument("--model", choices=("merged", "adapter", "base"), default=None)
    added.add_argument("--temperature", type=float, default=0.0)
    added.add_argument("--max-new-tokens", type=int, default=256)


def chat(options: argparse.Namespace) -> Found | None:
    from ftui.chat import ChatSettings, Speaker, load_for_chat, stream_reply
    from ftui.proof import best_model
    from ftui.runs import RunStore
    from ftui.settings import checked
    from ftui.train import checkpoint_at

    run = RunStore(options.runs).find(options.run)
    settings = checked(ChatSettings, {"temperature": options.temperature, "max_new_tokens": options.max_new_tokens})
    values = dict(_column(text) for text in options.column)
    checkpoint = None if options.checkpoint is None else checkpoint_at(run, options.checkpoint)
    if checkpoint and options.model not in (None, "adapter"):
        raise UserError("A checkpoint holds an adapter; leave --model out, or take it without --checkpoint.")
    which = options.model or ("adapter" if checkpoint else best_model(run))
    model, encoding = load_for_chat(Speaker(run, which, checkpoint))

    def reply(text: str, history: list[dict[str, Any]]) -> Found:
        messages = run.config.template.turn(text, values, history)
        *_, (words, is_cut) = stream_reply(model, encoding, messages, settings, threading.Event())
        tokens = len(encoding.tokenizer(words, add_special_tokens=False)["input_ids"])
        said = {"reply": words, "prompt": encoding.prompt(messages), "tokens": tokens, "cut": is_cut}
        return said | {"model": which, "messages": messages}

    prompts = options.prompt or ([""] if values else [])
    return _answer(prompts, reply) if prompts else _converse(reply)


def _column(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"--column takes NAME=VALUE; “{text}” has no “=”.")
    return name.strip(), value


def _answer(prompts: list[str], reply: Callable[[str, list[dict[str, Any]]], Found]) -> Found:
    """The last reply, and all of them."""
    replies = [reply(text, []) for text in prompts]
    for found in replies:
        print(found["reply"])
        found.pop("messages")
    return {**replies[-1], "replies": replies}


def _converse(reply: Callable[[str, list[dict[str, Any]]], Found]) -> None:
    """A conversation in the terminal, until an empty line or the end of input."""
    history: list[dict[str, Any]] = []
    while True:
        try:
            text = input("> ")
        except EOFError:
            return
        if not text.strip():
            return
        found = reply(text, history)
        print(found["reply"])
        history = [message for message in found["messages"] if message["role"] != "system"]
        history.append({"role": "assistant", "content": found["reply"]})
