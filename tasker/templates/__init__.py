"""What a workflow is: the DAG as data, its checks and its hash."""

from tasker.templates.compiled import CompiledTemplate, compile_template, compiled_from
from tasker.templates.diff import differences
from tasker.templates.graph import Graph
from tasker.templates.hash import (
    canonical_bytes,
    content_hash,
    effective_version,
    from_canonical,
    hash_version,
)
from tasker.templates.input_schema import InputSchema
from tasker.templates.model import (
    CircuitBreaker,
    Concurrency,
    Debounce,
    Fairness,
    OnTimeout,
    RateLimit,
    Retry,
    StaleAfter,
    StepSpec,
    TemplateSpec,
    document_of,
)
from tasker.templates.validate import validate
from tasker.templates.yaml import load_yaml

__all__ = [
    "CircuitBreaker",
    "CompiledTemplate",
    "Concurrency",
    "Debounce",
    "Fairness",
    "Graph",
    "InputSchema",
    "OnTimeout",
    "RateLimit",
    "Retry",
    "StaleAfter",
    "StepSpec",
    "TemplateSpec",
    "canonical_bytes",
    "compile_template",
    "compiled_from",
    "content_hash",
    "differences",
    "document_of",
    "effective_version",
    "from_canonical",
    "hash_version",
    "load_yaml",
    "validate",
]
