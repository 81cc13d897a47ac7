"""What a public forge runs and shows: it parses, and its commands are ours."""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def _jobs(path: Path) -> dict[str, Any]:
    jobs: dict[str, Any] = yaml.safe_load(path.read_text())["jobs"]
    return jobs


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_workflow(workflow: Path) -> None:
    """Every job ends by itself, and runs only programs of this repository."""
    for job in _jobs(workflow).values():
        commands = [step["run"].split()[0] for step in job["steps"] if "run" in step]

        assert job["timeout-minutes"] <= 60
        assert commands
        for command in commands:
            assert command == ".venv/bin/python" or os.access(ROOT / command, os.X_OK), command


def test_one_job_runs_what_ci_runs() -> None:
    """Green there means what green here means."""
    runs = [step.get("run") for path in WORKFLOWS for job in _jobs(path).values() for step in job["steps"]]

    assert ".ci/run" in runs


@pytest.mark.parametrize("form", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("[!c]*.yml")), ids=lambda p: p.name)
def test_issue_form(form: Path) -> None:
    """Has what the forge demands of a form."""
    parsed = yaml.safe_load(form.read_text())

    assert {"name", "description", "body"} <= set(parsed)
    assert all(field["attributes"]["label"] for field in parsed["body"])
