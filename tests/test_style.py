"""The style sheet, where Gradio would carry it out otherwise than it reads."""

import re

from ftui.ui import CSS


def test_no_rule_for_the_dark_page_names_it_twice() -> None:
    """Gradio rewrites `.dark a, .dark b` so that the second half never holds; `.dark :is(a, b)` it leaves whole."""
    without_comments = re.sub(r"/\*.*?\*/", "", CSS, flags=re.DOTALL)
    selectors = re.findall(r"([^{};]+)\{", without_comments)
    dark = [each.strip() for each in selectors if ".dark" in each]
    assert dark
    assert not [each for each in dark if each.count(".dark") > 1 or not each.startswith(".dark ")]


def test_the_open_tab_has_a_color_of_its_own_on_both_pages() -> None:
    """Gradio's stands 4.3 to 1 from a dark page; the accent is what headings have."""
    assert re.search(r'\[role="tab"\]\[aria-selected="true"\] \{ color: var\(--accent\)', CSS)
    assert len(re.findall(r'\.act, \[role="tab"\]\)? \{ --accent', CSS)) == 2
