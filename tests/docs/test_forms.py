"""The files that a repository's host reads are what it takes."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.architecture.tree import ROOT

GITHUB = ROOT / ".github"
WORKFLOW = GITHUB / "workflows" / "ci.yml"
FORMS = {
    "vendor.github-workflows": [WORKFLOW],
    "vendor.github-issue-forms": [GITHUB / "ISSUE_TEMPLATE" / "bug.yml", GITHUB / "ISSUE_TEMPLATE" / "feature.yml"],
    "vendor.github-issue-config": [GITHUB / "ISSUE_TEMPLATE" / "config.yml"],
}


def check(schema: str, files: list[Path]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *map(str, files)],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("schema", FORMS)
def test_a_form_is_what_its_schema_says(schema: str) -> None:
    done = check(schema, FORMS[schema])
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_wrong_form_is_found(tmp_path: Path) -> None:
    wrong = tmp_path / "bug.yml"
    wrong.write_text("name: x\ndescription: y\nbody: nothing\n", encoding="utf-8")
    assert check("vendor.github-issue-forms", [wrong]).returncode == 1


def test_the_workflow_runs_what_a_person_runs() -> None:
    steps = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"]["run"]["steps"]
    commands = [step["run"] for step in steps if "run" in step]
    assert ".ci/run" in commands
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert [one for one in commands if one.startswith("make ") and one.split()[1] not in targets] == []
    assert all(re.search(r"@(v\d|[0-9a-f]{40})", step["uses"]) for step in steps if "uses" in step)
