import pytest

from tasker.cli.showing import progress_text
from tasker.events.messages import StepProgress


@pytest.mark.parametrize(
    ("done", "total", "message", "words"),
    [(3, 4, "packing", "3 of 4, packing"), (0.5, None, "", "0.5"), (12, 100, "", "12 of 100")],
)
def test_progress_is_told_in_words(done: float, total: float | None, message: str, words: str) -> None:
    told = StepProgress(attempt=1, at="2026-11-25T10:00:00Z", done=done, total=total, message=message)
    assert progress_text(told) == words


def test_of_a_list_it_is_told_how_many_items_failed() -> None:
    told = StepProgress(attempt=1, at="2026-11-25T10:00:00Z", done=12, total=100, failed=3)
    assert progress_text(told) == "12 of 100, 3 failed"
