"""OpenTelemetry spans, where the process has a real tracer provider; else nothing, at no cost.

The API alone is a dependency. Whether somebody set a provider is looked at once, when a client, a worker or the
service starts; a process that never imported OpenTelemetry is not made to. W3C `traceparent` carries a span from
process to process and into the events' metadata.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING, Final

from tasker.version import __version__

if TYPE_CHECKING:
    from opentelemetry.trace import Span

PROVIDER_VARIABLE: Final = "OTEL_PYTHON_TRACER_PROVIDER"
"""Names a provider that OpenTelemetry loads by itself."""

TRACEPARENT: Final = "traceparent"


class SpanKind(Enum):
    """What a span is to its trace; OpenTelemetry's own names."""

    CLIENT = "CLIENT"
    SERVER = "SERVER"
    INTERNAL = "INTERNAL"
    PRODUCER = "PRODUCER"
    CONSUMER = "CONSUMER"


class Tracing:
    """Starts spans. Made by `tracing_of_process`."""

    def __init__(self) -> None:
        from opentelemetry import context, trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._trace = trace
        self._context = context
        self._propagator = TraceContextTextMapPropagator()
        self._tracer = trace.get_tracer("tasker", __version__)

    def start(
        self,
        name: str,
        kind: SpanKind,
        *,
        parent: str | None,
        links: Iterable[str] = (),
        attributes: Mapping[str, str | int] | None = None,
    ) -> Span:
        """Return a span that has begun, below the span that `parent` names; its owner ends it.

        `links` are traceparents of spans that it follows without being part of them.
        """
        return self._tracer.start_span(
            name,
            # A trace begins where nobody named one, never at whatever span happens to be current.
            context=self._propagator.extract({TRACEPARENT: parent} if parent else {}, context=self._context.Context()),
            kind=self._trace.SpanKind[kind.name],
            links=[self._trace.Link(found) for link in links if (found := self._span_context(link)).is_valid],
            attributes={f"tasker.{key}": value for key, value in (attributes or {}).items()},
        )

    @contextmanager
    def current(self, name: str, kind: SpanKind) -> Iterator[str]:
        """Have a span below the caller's own be the current one; gives its traceparent."""
        with self._tracer.start_as_current_span(name, kind=self._trace.SpanKind[kind.name]) as span:
            yield self.traceparent(span)

    def enter(self, span: Span) -> None:
        """Make `span` the current one of this asyncio task, or of this `contextvars.Context`, for its whole life."""
        self._context.attach(self._trace.set_span_in_context(span))

    @contextmanager
    def below(self, traceparent: str) -> Iterator[None]:
        """Have spans that begin here stand below the one that `traceparent` names, of another process."""
        parent = self._propagator.extract({TRACEPARENT: traceparent}, context=self._context.Context())
        token = self._context.attach(parent)
        try:
            yield
        finally:
            self._context.detach(token)

    def flush(self, timeout_s: float) -> None:
        """Have the provider hand on what has ended, if it can."""
        flush = getattr(self._trace.get_tracer_provider(), "force_flush", None)
        if flush is not None:
            flush(int(timeout_s * 1000))

    def traceparent(self, span: Span) -> str:
        """Return what names `span` to others."""
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, context=self._trace.set_span_in_context(span))
        return carrier.get(TRACEPARENT, "")

    def fail(self, span: Span, why: str) -> None:
        """Mark `span` as failed; `why` is a type or code, not a user's message."""
        span.set_status(self._trace.Status(self._trace.StatusCode.ERROR, why))

    def _span_context(self, traceparent: str):  # type: ignore[no-untyped-def]  # noqa: ANN202 - a type of the late import
        context = self._propagator.extract({TRACEPARENT: traceparent}, context=self._context.Context())
        return self._trace.get_current_span(context).get_span_context()


def tracing_of_process() -> Tracing | None:
    """Return what starts spans; None when this process has no real tracer provider."""
    if "opentelemetry.trace" not in sys.modules and PROVIDER_VARIABLE not in os.environ:
        return None
    from opentelemetry import trace

    provider = trace.get_tracer_provider()
    if isinstance(provider, (trace.ProxyTracerProvider, trace.NoOpTracerProvider)):
        return None
    return Tracing()


@contextmanager
def spanning(tracing: Tracing | None, name: str, kind: SpanKind) -> Iterator[str | None]:
    """Give the traceparent of a span that lasts as long as the context; None without tracing."""
    if tracing is None:
        yield None
        return
    with tracing.current(name, kind) as traceparent:
        yield traceparent
