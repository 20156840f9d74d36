"""The plan: memory, steps, tokens, time, disk and money of a run before the click, and how its steps are carried out."""

from ftui.plan.duration import PROVEN_ROWS, WATCHED_TOKENS, reply_limit
from ftui.plan.memory import HEAD_TOKENS, Choice, choose, peak_memory
from ftui.plan.plan import Measured, Plan, plan, plan_of
from ftui.plan.price import price_here
from ftui.plan.size import Dimensions
from ftui.plan.tokens import Tokens

__all__ = [
    "HEAD_TOKENS",
    "PROVEN_ROWS",
    "WATCHED_TOKENS",
    "Choice",
    "Dimensions",
    "Measured",
    "Plan",
    "Tokens",
    "choose",
    "peak_memory",
    "plan",
    "plan_of",
    "price_here",
    "reply_limit",
]
