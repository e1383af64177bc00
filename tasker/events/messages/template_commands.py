"""Commands to templates."""

from __future__ import annotations

from typing import Any

from tasker.events.messages.command import OperatorCommand
from tasker.events.messages.fields import Name


class TemplateRegister(OperatorCommand, kw_only=True, omit_defaults=True):
    """`template.register`: make a template known; `template` is the document that YAML spells too."""

    template: dict[str, Any]


class TemplateUse(OperatorCommand, kw_only=True, omit_defaults=True):
    """`template.use`: choose what "no version" means for new tasks."""

    name: Name
    namespace: Name = "default"
    version: str
