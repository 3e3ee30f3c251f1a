"""The mistakes that ``planted.py`` plants have their places still."""

import planted
import pytest


@pytest.mark.parametrize("mistake", planted.PLANTED, ids=lambda mistake: mistake.what)
def test_the_text_that_a_mistake_replaces_is_there_once(mistake):
    text = (planted.ROOT / planted.SOURCE / mistake.file).read_text()
    assert text.count(mistake.right) == 1
    assert mistake.wrong not in text or mistake.wrong in mistake.right
