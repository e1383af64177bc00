"""Random templates of every kind: the real core does what a second reading of the documentation says.

Both are told the same, one outcome or command after the other; after each they must agree on what has begun, what does
not run, what came of it, what is kept, and where the task is.
"""

from contextlib import closing
from typing import Any

from hypothesis import HealthCheck, event, given, note, settings
from hypothesis import strategies as st

from tasker.errors import TemplateInvalid
from tasker.templates import compile_template, validate
from tests.properties.examples import examples
from tests.properties.test_domain import check_history, check_state
from tests.reference.both import Both
from tests.reference.documents import companies, documents, sharing
from tests.reference.together import Together

COMMANDS_MAX = 60
TURNS_MAX = 40
RETRIES_MAX = 4


@settings(max_examples=examples(2), suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(documents(), st.data())
def test_the_core_does_what_the_documentation_says(document: dict[str, Any], data: st.DataObject) -> None:
    live_through(document, data)


@settings(max_examples=examples(1), suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(sharing(), st.data())
def test_what_steps_share_is_what_the_documentation_says(document: dict[str, Any], data: st.DataObject) -> None:
    live_through(document, data)


@settings(max_examples=examples(1), suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(companies(), st.data())
def test_tasks_hear_of_each_other_as_the_documentation_says(kinds: list[dict[str, Any]], data: st.DataObject) -> None:
    try:
        templates = [compile_template(validate(document)) for document in kinds]
    except TemplateInvalid:
        event("the steps do not fit together")
        return
    note(str(kinds))
    with closing(Together(list(zip(templates, kinds, strict=True)), data)) as together:
        for _ in range(TURNS_MAX):
            if all(one.run.state.ended for one in together.tasks):
                break
            together.turn()
            check_all(together)
        together.settle()
        check_all(together)
        for one in together.begun():
            one.agree_on_restart()
            check_history(one.run)
            event(str(one.run.state.status))


def check_all(together: Together) -> None:
    """What the core and the model say of each task is the same."""
    for one in together.begun():
        one.agree()
        check_state(one.run)


def live_through(document: dict[str, Any], data: st.DataObject) -> None:
    """Let a task of that document live, in the core and in the model, and hold them against each other."""
    try:
        template = compile_template(validate(document))
    except TemplateInvalid:
        event("the steps do not fit together")
        return
    note(str(document))
    both = Both(template, document, data)
    run, said = both.run, both.said
    both.create()
    both.agree()
    retries = 0
    for _ in range(COMMANDS_MAX):
        if run.state.ended:
            break
        if said.status == "blocked" and not said.holds and data.draw(st.integers(0, 2), label="repaired") == 0:
            if retries == RETRIES_MAX or not list(said.failures()):
                break
            retries += 1
            run.retry()
            said.retry()
        else:
            both.go_on()
        both.agree()
        check_state(run)
    both.agree_on_restart()
    event(str(run.state.status))
    check_history(run)
