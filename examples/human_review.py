"""A person reviews a draft: approved it is published, rejected it ends in `rejected`, silence asks the chief as well.

```sh
tasker task create human_review --input '{"title": "Spring"}' --requested-by ada
tasker approval list --role editors
tasker approval approve TASK approval --requested-by bob --role editors --values '{"channel": "blog"}'
```
"""

from __future__ import annotations

from typing import Any

from tasker import Template

human_review = Template("human_review")

FORM = {
    "type": "object",
    "required": ["channel"],
    "properties": {"channel": {"enum": ["blog", "newsletter"]}},
    "additionalProperties": False,
}


@human_review.step
def draft(input: dict[str, str]) -> dict[str, str]:
    return {"title": input["title"], "text": f"A text on {input['title']}."}


human_review.approval(
    "approval",
    title="Publish this draft?",
    roles=["editors"],
    form=FORM,
    four_eyes=True,
    wait_deadline_s=48 * 3600,
    on_wait_deadline="escalate",
    escalate_to=["chief"],
    after="draft",
)


@human_review.step(when="results.approval.decision == 'approved'")
def publish(draft: dict[str, str], approval: dict[str, Any]) -> dict[str, str]:
    return {"published": draft["title"], "on": approval["values"]["channel"], "approved_by": approval["by"]}


human_review.transform(
    "rejected",
    "{'by': results.approval.by, 'reason': results.approval.reason}",
    when="results.approval.decision == 'rejected'",
    after="approval",
)
