"""A report each night at half past two in Zurich, whatever its clocks do.

`tasker up examples/nightly_report.py` runs it; then `python examples/nightly_report.py` begins the schedule, and says
when it fires. A second time changes nothing.
"""

from tasker import Template
from tasker.client import TaskerSyncClient

nightly_report = Template("nightly_report")

SCHEDULE = {
    "template": "nightly_report",
    "cron": "30 2 * * *",
    "timezone": "Europe/Zurich",
    "input": {"city": "Zurich"},
    "time_key": "at",
    "jitter_s": 60,
}


@nightly_report.step
def count(input: dict[str, str]) -> int:
    return len(input["city"])


@nightly_report.step
def write(input: dict[str, str], count: int) -> str:
    return f"{input['city']}, {input['at'][:10]}: {count}"


if __name__ == "__main__":
    with TaskerSyncClient() as tasker:
        tasker.schedules.create("nightly", SCHEDULE)
        for coming in tasker.schedules.next("nightly"):
            print(coming.fire_time)
