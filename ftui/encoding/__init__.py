"""Encoding: messages -> the tokens a model is trained on and the tokens it is asked with. The one template contract."""

from ftui.encoding.encoding import IGNORED, Encoded, Encoding, TokenView
from ftui.encoding.messages import Message, answer_of
from ftui.encoding.templates import CHAT_TEMPLATES

__all__ = ["CHAT_TEMPLATES", "IGNORED", "Encoded", "Encoding", "Message", "TokenView", "answer_of"]
