"""What the documentation says of a task, as a small, slow interpreter: the real core must do the same.

It is written from docs/howto/dynamic-steps.md, wait-for-people-and-events.md, limit-time.md, limit-what-runs.md,
share-state.md, repair-tasks.md, usage.md, domain-events.md and compensate.md, not from `tasker.service.domain`, and
shares no code with it. Nothing is counted or kept up: every question (may a step begin? does anybody need this result?)
is asked anew of what has happened so far. It records no events, knows no time, and takes one outcome after the other.

    task = Reference(document, {"n": 6}, MEANINGS)
    task.create()
    task.complete("s1", 1)
    task.status, task.open(), task.instances["s1"].result

| file | says |
|---|---|
| `standing`, `seen`, `joins`, `outlook` | what can be asked: of the task, the shared state, a step's parents, the end |
| `moves` | what follows from what: the words that each of the following gives one part of their meaning |
| `beginnings`, `leaves`, `lists`, `places` | how steps and items begin, and with which places |
| `outcomes`, `spending`, `failures`, `paths`, `loops` | how attempts end, what they use, what that means for others |
| `signals`, `approvals`, `event_waits`, `wait_ends` | what is waited for, and how waits end |
| `retries`, `by_hand`, `holds` | what people do |
| `ending`, `undoing`, `at_rest` | how a task stops, is undone, and what is said when nothing moves |
| `company` | tasks beside each other, and what they say to each other |
| `instances`, `waits`, `shared`, `domain_events`, `budget`, `given` | what these keep |
"""

from tests.reference.model.company import Company, Said
from tests.reference.model.reference import Reference
from tests.reference.model.standing import Meaning

__all__ = ["Company", "Meaning", "Reference", "Said"]
