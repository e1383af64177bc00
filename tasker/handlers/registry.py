"""What a worker serves: the templates and handlers found in a module, by the work that names them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any, Final

from tasker.errors import ConfigurationError
from tasker.handlers.handler import HandlerSpec, place_of, plain_handlers_of, step_called
from tasker.handlers.hooks import Middleware
from tasker.handlers.resources import check_resources
from tasker.handlers.template import Template
from tasker.labels import may_serve
from tasker.suggestions import did_you_mean
from tasker.templates.model import StepSpec, TemplateSpec

DEFAULT_NAMESPACE: Final = "default"
DEFAULT_QUEUE: Final = "default"


class Registry:
    """Functions by (namespace, queue, handler): those of templates' steps first, then plain handlers.

    Args:
        labels: of the worker: queues whose work requires others are not served; None: all are.

    Raises:
        TemplateInvalid: a template has faults.
        ConfigurationError: two functions claim one piece of work; a queue would be served in part; or a function's
            annotations or parameters do not fit; `ResourceUnknown`, `ResourceCycle`: its resources cannot be made.
    """

    def __init__(
        self,
        templates: Iterable[Template] = (),
        handlers: Iterable[HandlerSpec] = (),
        middlewares: Iterable[Middleware] = (),
        *,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        self.templates = tuple(templates)
        self.middlewares = tuple(sorted(middlewares, key=lambda one: one.order))
        self.specs: tuple[TemplateSpec, ...] = tuple(template.spec() for template in self.templates)
        _check_distinct(self.specs)
        self._by_work: dict[tuple[str, str, str], HandlerSpec] = {}
        self._everywhere: dict[str, HandlerSpec] = {}
        for template in self.templates:
            for step in template.handlers():
                self._add((step.namespace, step.queue, step.spec.name), step.spec)
        namespaces = tuple(dict.fromkeys(spec.namespace for spec in self.specs)) or (DEFAULT_NAMESPACE,)
        plain = tuple(handlers)
        self._add_plain(plain, namespaces)
        found = self._served(plain, namespaces)
        self._labels = labels
        self._queues = frozenset(one for one in found if self.may_serve(one[1]))
        self.left = found - self._queues
        """Queues that its handlers could serve, were it not for their labels."""
        self._check_complete()
        for spec in (*self._by_work.values(), *self._everywhere.values()):
            spec.check_types()
            check_resources(needed for _, needed in spec.resources)

    def lookup(self, namespace: str, queue: str, handler: str) -> HandlerSpec | None:
        """Return the function that runs work of `queue` naming `handler`; None: there is none here."""
        return self._by_work.get((namespace, queue, handler)) or self._everywhere.get(handler)

    def specs_of_work(self) -> dict[tuple[str, str, str], HandlerSpec]:
        """Return every function by the work it takes: namespace, queue, handler."""
        everywhere = {
            (namespace, queue, name): spec
            for namespace, queue in self._queues
            for name, spec in self._everywhere.items()
        }
        return everywhere | {work: spec for work, spec in self._by_work.items() if work[:2] in self._queues}

    def may_serve(self, queue: str) -> bool:
        """Return whether the worker has the labels that a queue requires."""
        return self._labels is None or may_serve(self._labels, queue)

    def queues(self) -> frozenset[tuple[str, str]]:
        """Return the (namespace, queue) pairs to serve."""
        return self._queues

    def documents(self) -> tuple[dict[str, Any], ...]:
        """Return what to register, a document a template."""
        return tuple(template.document() for template in self.templates)

    def _add(self, work: tuple[str, str, str], spec: HandlerSpec) -> None:
        known = self._by_work.setdefault(work, spec)
        if known.function is not spec.function:
            namespace, queue, name = work
            raise ConfigurationError(
                f"two functions for handler {name!r} of queue {queue!r} in namespace {namespace!r}: "
                f"{place_of(known.function)} and {place_of(spec.function)}; give one another name or queue"
            )

    def _add_plain(self, handlers: Iterable[HandlerSpec], namespaces: Iterable[str]) -> None:
        own: dict[tuple[str, str], HandlerSpec] = {}
        for spec in handlers:
            if spec.queue is None:
                known = self._everywhere.setdefault(spec.name, spec)
            else:
                known = own.setdefault((spec.queue, spec.name), spec)
                for namespace in namespaces:
                    self._by_work.setdefault((namespace, spec.queue, spec.name), spec)
            if known.function is not spec.function:
                raise ConfigurationError(
                    f"two functions for handler {spec.name!r}: "
                    f"{place_of(known.function)} and {place_of(spec.function)}; give one another name or queue"
                )

    def _served(self, handlers: Iterable[HandlerSpec], namespaces: Iterable[str]) -> frozenset[tuple[str, str]]:
        found = {(namespace, queue) for namespace, queue, _ in self._by_work}
        for spec in self.specs:
            found |= {
                (spec.namespace, spec.work_queue_of(step))
                for step in spec.steps
                for name in (step.handler, step.compensate)
                if name and self.lookup(spec.namespace, spec.work_queue_of(step), name) is not None
            }
        if not self.specs and any(handler.queue is None for handler in handlers):
            found |= {(namespace, DEFAULT_QUEUE) for namespace in namespaces}
        return frozenset(found)

    def _check_complete(self) -> None:
        """Refuse a queue of which some work has a function here and some has none: it would fail at random."""
        for spec in self.specs:
            for step in spec.steps:
                if step.kind != "handler":
                    continue
                queue = spec.work_queue_of(step)
                found = self.lookup(spec.namespace, queue, step.handler)
                if found is None:
                    if (spec.namespace, queue) in self._queues:
                        raise ConfigurationError(
                            f"step {step.name!r} of template {spec.name!r} has no function here: mark one "
                            f"@handler({step.handler!r}), or give the step a queue of its own"
                        )
                    continue
                missing = [name for name in found.needed_steps if step_called(name, step.after) is None]
                if missing:
                    raise ConfigurationError(
                        f"{place_of(found.function)}: parameter {missing[0]!r} is no parent of step {step.name!r} "
                        f"of template {spec.name!r}: name it in the step's `after`, or read the result of an earlier "
                        f"step with `await ctx.result({missing[0]!r})`"
                    )
            for step in spec.steps:
                self._check_undone(spec, step)

    def _check_undone(self, spec: TemplateSpec, step: StepSpec) -> None:
        """Refuse a step of a served queue whose compensation has no function here, or asks for other results."""
        queue = spec.work_queue_of(step)
        if step.compensate is None or (spec.namespace, queue) not in self._queues:
            return
        found = self.lookup(spec.namespace, queue, step.compensate)
        if found is None:
            raise ConfigurationError(
                f"the compensation of step {step.name!r} of template {spec.name!r} has no function here: mark one "
                f"@handler({step.compensate!r})"
            )
        missing = [name for name in found.needed_steps if step_called(name, (step.name,)) is None]
        if missing:
            raise ConfigurationError(
                f"{place_of(found.function)}: parameter {missing[0]!r}: a compensation gets the input and the result "
                f"of its step, {step.name!r} of template {spec.name!r}; ask ctx.result({missing[0]!r}) for another"
            )


def collect(module: ModuleType, names: str = "", labels: Mapping[str, str] | None = None) -> Registry:
    """Return what `module` declares: each Template, `@handler` and `@middleware` among its names.

    Args:
        module: the app.
        names: of those templates and handlers that are wanted, with commas between; "": all. A name may also stand for
            a list of them.
        labels: as `Registry`.

    Raises:
        TemplateInvalid, ConfigurationError: as `Registry`; also when the module has neither.
    """
    values = list({id(value): value for value in vars(module).values()}.values())
    middlewares = [value for value in values if isinstance(value, Middleware)]
    if names:
        values = _named(module, names)
    templates = [value for value in values if isinstance(value, Template)]
    handlers = [spec for value in values for spec in plain_handlers_of(value)]
    if not templates and not handlers:
        where = f"{names!r} of module {module.__name__!r}" if names else f"module {module.__name__!r}"
        raise ConfigurationError(
            f"{where} has no Template and no function marked @handler(name)",
            remedy=f"the module has {_declared(module)}" if names else "`tasker worker --help` has forms of an app",
        )
    return Registry(templates, handlers, middlewares, labels=labels)


def _named(module: ModuleType, names: str) -> list[object]:
    found: list[object] = []
    for name in names.split(","):
        if not hasattr(module, name):
            hint = did_you_mean(name, list(vars(module)))
            raise ConfigurationError(
                f"module {module.__name__!r} has no {name!r}{hint}", remedy=f"it has {_declared(module)}"
            )
        value = getattr(module, name)
        found += value if isinstance(value, (list, tuple)) else [value]
    return found


def _declared(module: ModuleType) -> str:
    """Return the names that an app of `module` may choose from, for people."""
    names = [name for name, value in vars(module).items() if isinstance(value, Template) or plain_handlers_of(value)]
    return ", ".join(names) or "no template and no handler"


def _check_distinct(specs: Iterable[TemplateSpec]) -> None:
    seen: set[tuple[str, str]] = set()
    for spec in specs:
        if (spec.namespace, spec.name) in seen:
            raise ConfigurationError(f"two templates are called {spec.name!r} in namespace {spec.namespace!r}")
        seen.add((spec.namespace, spec.name))
