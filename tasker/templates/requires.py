"""The key `requires` of a step is read: the labels that a worker must have to get its work."""

from __future__ import annotations

from tasker.errors import NameInvalid
from tasker.ids import check_name
from tasker.labels import REQUIRED_CHARS_MAX, is_label, spelled
from tasker.templates.reading import ObjectReader, kind_of, quoted


def requires_of(step: ObjectReader) -> dict[str, str]:
    """Return the labels that a step's document requires; faulty ones are left out."""
    value = step.get("requires")
    if value is None:
        return {}
    if not isinstance(value, dict):
        step.fault("requires", f"must be labels with their values, such as {{gpu: a100}}, not {kind_of(value)}")
        return {}
    if not value:
        step.fault("requires", "does nothing without a label, such as {gpu: a100}")
    found: dict[str, str] = {}
    for name, label in value.items():
        path = (*step.path, "requires", str(name))
        try:
            check_name(str(name), "label")
        except NameInvalid as error:
            step.faults.add(path, error.detail)
            continue
        if not isinstance(label, str):
            step.faults.add(path, f"must be text, not {kind_of(label)}; put it in quotes")
        elif not is_label(label):
            step.faults.add(path, f"must be up to 63 letters, digits, _ and -, such as a100, not {quoted(label)}")
        else:
            found[str(name)] = label
    size = len(spelled(found))
    if size > REQUIRED_CHARS_MAX:
        step.fault("requires", f"labels of {size} characters together are more than the {REQUIRED_CHARS_MAX} allowed")
    return found
