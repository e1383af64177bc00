"""What `TimelyChecker` finds of a log at rest: of tasks that should have gone on by themselves."""

from tasker.replay.checkers import timely


class TimelyAtRest(timely.TimelyChecker):
    """Checks one shard of a log to which nothing more comes."""

    def close_at_rest(self, now_us: int | None = None) -> None:
        """Take note that everything has healed and nothing more will happen by itself.

        Args:
            now_us: the log's time now. With it, tasks may still wait for a timer that is not overdue; without,
                every task that is not blocked must have ended.
        """
        for stream_id, task in self._tasks.items():
            if task.blocked or task.paused:
                continue
            if task.waiting and not task.timers:
                continue  # it waits for what only the outside can send
            if (task.children or task.places) and now_us is not None:
                continue  # it waits for tasks that have their own timers
            if now_us is None or not task.timers:
                self._find(stream_id, task.position, "the task has not ended, and no person holds it up")
                continue
            for (name, what), at_us in task.timers.items():
                if now_us - at_us > (self._late_us_max or 0):
                    self._find(
                        stream_id, task.position, f"{timely._named(name, what)} is {timely._s(now_us - at_us)} overdue"
                    )
