"""What a row becomes: `{{column}}` text, conversations in any known dress, and what a data set seems to be."""

from ftui.template.prompt import PromptTemplate, Unfilled
from ftui.template.proposal import Proposal, propose

__all__ = ["PromptTemplate", "Proposal", "Unfilled", "propose"]
