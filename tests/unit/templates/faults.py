"""What is wrong with a document, as its author is told."""

import pytest

from tasker.errors import TemplateInvalid
from tasker.templates import load_yaml


def check_only_fault(text: str, begins: str) -> None:
    """Check that a YAML document is refused for one fault, and what the words about it, with its line, begin with."""
    with pytest.raises(TemplateInvalid) as refused:
        load_yaml(text)
    details = [fault.detail for fault in refused.value.errors]
    assert [detail.startswith(begins) for detail in details] == [True], details
