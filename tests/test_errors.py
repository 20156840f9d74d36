"""errors: how sentences name the first of many things."""

from itertools import count

import pytest

from ftui.errors import listed


@pytest.mark.parametrize(
    ("names", "said"), [("", ""), ("a", "a"), ("abc", "a, b, c"), ("abcd", "a, b, c …"), ("abcde", "a, b, c …")]
)
def test_the_first_names_are_listed_with_a_sign_where_there_are_more(names, said):
    assert listed(names, 3) == said


def test_no_more_names_are_asked_for_than_are_needed():
    assert listed(map(str, count(1)), 2) == "1, 2 …"
