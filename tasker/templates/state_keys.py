"""The key `state` of a template: what becomes of a key of the shared state that several steps write.

A policy is a name, or `{using: EXPRESSION}` over `left` (what there is so far) and `right` (the next write). A key that
the template does not name has the policy `fail`.
"""

from __future__ import annotations

import re
from typing import Any, Final, get_args

from tasker.suggestions import did_you_mean
from tasker.templates import model
from tasker.templates.model import StatePolicy, Using
from tasker.templates.reading import Faults, ObjectReader, kind_of, quoted

STATE_KEY_PATTERN: Final = r"[A-Za-z_][A-Za-z0-9_]{0,62}"
_key: Final = re.compile(STATE_KEY_PATTERN)
VARIABLES_OF_USING: Final = frozenset({"left", "right"})


def is_state_key(text: object) -> bool:
    """Return whether `text` can be a key of the shared state."""
    return isinstance(text, str) and _key.fullmatch(text) is not None


def state_keys(read: ObjectReader, faults: Faults) -> dict[str, StatePolicy | Using]:
    """Return the policies of the keys that a template names, with the faults noted."""
    value = read.get("state")
    if value is None:
        return {}
    if not isinstance(value, dict):
        read.fault("state", f"must be an object of keys and their policies, not {kind_of(value)}")
        return {}
    if len(value) > model.STATE_KEYS_MAX:
        read.fault("state", f"{len(value)} keys are more than the {model.STATE_KEYS_MAX} allowed")
        return {}
    found: dict[str, StatePolicy | Using] = {}
    for key, policy in value.items():
        path = (*read.path, "state", str(key))
        if not is_state_key(key):
            faults.add(path, f"{quoted(key)} is no key such as 'total': a letter or '_', then letters, digits and '_'")
        elif isinstance(policy, dict):
            using = _using(policy, path, faults)
            if using is not None:
                found[key] = using
        else:
            _check_name(policy, path, faults)
            found[key] = policy
    return found


def _using(policy: dict[Any, Any], path: tuple[str | int, ...], faults: Faults) -> Using | None:
    read = ObjectReader(policy, path, "a policy", Using.__struct_fields__, faults)
    if "using" not in read:
        faults.add(path, "'using' is missing: an expression over left and right")
        return None
    text = read.expression("using", variables=VARIABLES_OF_USING)
    return None if text is None else Using(using=text)


def _check_name(policy: object, path: tuple[str | int, ...], faults: Faults) -> None:
    known = get_args(StatePolicy)
    if isinstance(policy, str) and policy in known:
        return
    hint = did_you_mean(policy, known) if isinstance(policy, str) else ""
    wanted = ", ".join(known)
    faults.add(path, f"must be one of {wanted}, or {{using: EXPRESSION}}, not {quoted(policy)}{hint}")
