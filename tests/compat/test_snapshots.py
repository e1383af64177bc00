"""What another build of the same form has kept is taken up, and is what this build would have kept."""

import msgspec
import pytest

from tasker.events.log import Snapshot
from tasker.service.domain.forms import FORMS
from tests.compat.record_snapshots import STREAM, Recorded, events_of, path_of, states_of


@pytest.mark.parametrize("kind", FORMS)
def test_a_kept_state_keeps_its_form(kind: str) -> None:
    """If this fails, a fold or what is kept of a state has changed: owners would go on from what no fold gives.

    Raise the number of the form, then `python -m tests.compat.record_snapshots`.
    """
    form = FORMS[kind]
    recorded = msgspec.json.decode(path_of(kind, form.number).read_bytes(), type=Recorded)
    assert states_of(form, events_of(recorded, kind)) == (recorded.state, recorded.states_hash)
    kept = Snapshot(0, STREAM, 1, 1, form.number, kind, recorded.state.encode())
    assert form.encode(form.decode(kept)).decode() == recorded.state
