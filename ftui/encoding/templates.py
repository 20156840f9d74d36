"""Chat templates for models that have none, and those that a file brings. All end an answer with a token that is learned."""

from __future__ import annotations

from pathlib import Path

from ftui.errors import UserError

PLAIN = (
    "{% for m in messages %}{% if m.role == 'assistant' %}{{ m.content + eos_token + '\n' }}"
    "{% else %}{{ m.content + '\n' }}{% endif %}{% endfor %}"
)
ALPACA = (
    "{{ 'Below is an instruction that describes a task. Write a response that completes it.' if messages[0].role != 'system' else messages[0].content }}"
    "{% for m in messages %}{% if m.role == 'user' %}{{ '\n\n### Instruction:\n' + m.content }}"
    "{% elif m.role == 'assistant' %}{{ '\n\n### Response:\n' + m.content + eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '\n\n### Response:\n' }}{% endif %}"
)
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' }}"
    "{{ eos_token if m.role == 'assistant' and eos_token != '<|im_end|>' else '' }}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CHAT_TEMPLATES = {"plain": PLAIN, "alpaca": ALPACA, "chatml": CHATML}


def read_template(chosen: str) -> str:
    """The Jinja of one of the three by its name, of a file, or `chosen` itself where it is Jinja."""
    if chosen in CHAT_TEMPLATES:
        return CHAT_TEMPLATES[chosen]
    if "{%" in chosen or "{{" in chosen:
        return chosen
    path = Path(chosen)
    if path.suffix not in (".jinja", ".j2") or not path.is_file():
        raise UserError(
            f"chat_template: there is no template “{chosen}”. Known: auto, {', '.join(CHAT_TEMPLATES)}, or the path of a .jinja file."
        )
    if path.stat().st_size > 65536:
        raise UserError(f"chat_template: {chosen} is larger than 64 KB.")
    return path.read_text(encoding="utf-8")
