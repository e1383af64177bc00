"""Tasker: an event-sourced workflow service.

What people who write and start workflows need is found here by name, and imported at its first use:
`from tasker import Template, Retry, StepContext, handler, RetryableError, PermanentError, TaskerClient`.
"""

from typing import TYPE_CHECKING, Any

from tasker.version import __version__

if TYPE_CHECKING:
    from tasker.client import TaskerClient, TaskerSyncClient
    from tasker.handlers import (
        Again,
        ApiRefused,
        ApiRequest,
        ApiUnavailable,
        AttemptCancelled,
        Batches,
        Budget,
        CircuitBreaker,
        Concurrency,
        Debounce,
        Decision,
        Emits,
        Fairness,
        OnTimeout,
        Outcome,
        PermanentError,
        RateLimit,
        Retry,
        RetryableError,
        StaleAfter,
        StepContext,
        Template,
        api_step,
        call_api,
        errors_are,
        handler,
        middleware,
        resource,
    )

__all__ = [
    "Again",
    "ApiRefused",
    "ApiRequest",
    "ApiUnavailable",
    "AttemptCancelled",
    "Batches",
    "Budget",
    "CircuitBreaker",
    "Concurrency",
    "Debounce",
    "Decision",
    "Emits",
    "Fairness",
    "OnTimeout",
    "Outcome",
    "PermanentError",
    "RateLimit",
    "Retry",
    "RetryableError",
    "StaleAfter",
    "StepContext",
    "TaskerClient",
    "TaskerSyncClient",
    "Template",
    "__version__",
    "api_step",
    "call_api",
    "errors_are",
    "handler",
    "middleware",
    "resource",
]


def __getattr__(name: str) -> Any:
    if name in {"TaskerClient", "TaskerSyncClient"}:
        import tasker.client as home
    elif name in __all__:
        import tasker.handlers as home  # type: ignore[no-redef]
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(home, name)
