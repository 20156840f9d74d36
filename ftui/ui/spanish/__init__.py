"""All that is translated, English: Spanish, cut by who says it.

SPANISH is what the page says. SENTENCES is what the core says, its blanks named, and WORDS what such a blank may hold;
`ui/sentences.py` says what the names mean.
"""

from ftui.ui.spanish.doctor import DOCTOR
from ftui.ui.spanish.mistakes import MISTAKES
from ftui.ui.spanish.models import MODELS
from ftui.ui.spanish.page import PAGE
from ftui.ui.spanish.plan import PLAN
from ftui.ui.spanish.rows import ROWS
from ftui.ui.spanish.runs import RUNS
from ftui.ui.spanish.settings import SETTINGS
from ftui.ui.spanish.template import TEMPLATE
from ftui.ui.spanish.words import WORDS

SPANISH = {**PAGE, **SETTINGS}
SENTENCES = {**MISTAKES, **ROWS, **TEMPLATE, **DOCTOR, **MODELS, **PLAN, **RUNS}

__all__ = ["SENTENCES", "SPANISH", "WORDS"]
