"""What many fields of messages are."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from tasker.ids import EVENT_NAME_PATTERN, INSTANCE_PATTERN, KEY_CHARS_MAX, NAME_PATTERN, PERSON_CHARS_MAX
from tasker.settings import Settings

# What the service checks of a text beyond its type; said here for the contracts, not checked in decoding.
Name = Annotated[str, msgspec.Meta(extra_json_schema={"pattern": f"^{NAME_PATTERN}$"})]
EventName = Annotated[str, msgspec.Meta(extra_json_schema={"pattern": f"^(?:{EVENT_NAME_PATTERN})$"})]
Key = Annotated[str, msgspec.Meta(extra_json_schema={"minLength": 1, "maxLength": KEY_CHARS_MAX})]
StepInstance = Annotated[str, msgspec.Meta(extra_json_schema={"pattern": f"^{INSTANCE_PATTERN}$"})]
Person = Annotated[str, msgspec.Meta(extra_json_schema={"minLength": 1, "maxLength": PERSON_CHARS_MAX})]
Time = Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]
Id = Annotated[str, msgspec.Meta(extra_json_schema={"format": "uuid"})]

DEFAULT_TENANT: Final = Settings().tenant
