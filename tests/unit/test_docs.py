"""What the pages promise is there: links lead somewhere, examples are valid, references are current."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from dawg_orchestrator.planning.cron import check_cron
from dawg_orchestrator.planning.graph import expand
from dawg_orchestrator.planning.untested import check_when
from dawg_orchestrator.planning.workflow import check_workflow
from dawg_orchestrator.resources.agentpool import AgentPoolSpec
from dawg_orchestrator.resources.schedule import ScheduleSpec
from dawg_orchestrator.resources.steps import STEPS, Inputs
from dawg_orchestrator.resources.task import Task
from dawg_orchestrator.resources.testrun import TestRunSpec
from dawg_orchestrator.resources.workflow import Parameter, WorkflowSpec
from docgen.update import MarksMissing, difference, wanted_pages, with_generated
from docpages import PAGES, ROOT, Block, anchors, links, yaml_blocks

DOCS = ROOT / "docs"
BLOCKS = list(yaml_blocks())
SPECS: dict[str, type[BaseModel]] = {
    "TestRun": TestRunSpec,
    "AgentPool": AgentPoolSpec,
    "Schedule": ScheduleSpec,
    "Workflow": WorkflowSpec,
}


def ours(block: Block) -> list[dict[str, Any]]:
    return [document for document in block.objects if document["apiVersion"] == "dawg.dev/v1alpha1"]


def unknown_fields(written: Any, understood: Any, place: str = "spec") -> Iterator[str]:
    """Fields that the models ignore: an older release may meet them, but documentation must not invent them."""
    if isinstance(written, Mapping) and isinstance(understood, Mapping):
        for name, value in written.items():
            if name in understood:
                yield from unknown_fields(value, understood[name], f"{place}.{name}")
            else:
                yield f"{place}.{name}"
    elif isinstance(written, list) and isinstance(understood, list):
        for index, (one, other) in enumerate(zip(written, understood, strict=True)):
            yield from unknown_fields(one, other, f"{place}[{index}]")


def field_names(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def leaves(values: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """The paths of a chart's values; what a container asks for is one of them, and so are labels."""
    for name, value in values.items():
        path = f"{above}.{name}" if above else name
        whole = name in ("resources", "matchLabels")
        yield from leaves(value, path) if isinstance(value, dict) and value and not whole else (path,)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_pages_and_headings_that_exist(page: Path):
    broken = []
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)

    assert broken == []


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_objects_are_what_the_product_understands_and_nothing_else(block: Block):
    for document in ours(block):
        spec = SPECS[document["kind"]].model_validate(document["spec"])
        understood = spec.model_dump(mode="json", by_alias=True, exclude_unset=True)

        assert list(unknown_fields(document["spec"], understood)) == []


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_documented_runs_can_be_carried_out_by_this_release(block: Block):
    for document in ours(block):
        if document["kind"] == "TestRun":
            run = TestRunSpec.model_validate(document["spec"])
            assert run.workflow_ref is not None or expand(run).cells
        elif document["kind"] == "Workflow":
            assert check_workflow(WorkflowSpec.model_validate(document["spec"])).cells
        elif document["kind"] == "Schedule":
            schedule = ScheduleSpec.model_validate(document["spec"])
            check_cron(schedule.cron, schedule.timezone)
            if schedule.when is not None:
                check_when(schedule.when)
            run = schedule.run_template.spec
            assert run.workflow_ref is not None or expand(run).cells


@pytest.mark.parametrize(
    ("page", "model"),
    [
        ("testrun.md", TestRunSpec),
        ("testrun.md", Task),
        ("agentpool.md", AgentPoolSpec),
        ("workflow.md", WorkflowSpec),
        ("workflow.md", Parameter),
    ],
    ids=["TestRun", "Task", "AgentPool", "Workflow", "Parameter"],
)
def test_every_field_is_documented(page: str, model: type[BaseModel]):
    text = (DOCS / page).read_text()

    assert [name for name in field_names(model) if f"{name}`" not in text and f"`{name}" not in text] == []


def test_every_input_and_output_of_the_controllers_steps_is_documented():
    text = (DOCS / "workflow.md").read_text()
    steps = {name: step for name, step in STEPS.items() if step.by == "controller"}
    words = {word for step in steps.values() for word in (*field_names(step.inputs or Inputs), *step.outputs)}

    assert [word for word in sorted(words | steps.keys()) if f"`{word}`" not in text] == []


def test_the_example_of_a_workflow_can_be_carried_out_by_this_release():
    workflow = yaml.safe_load((ROOT / "examples/workflow.yaml").read_text())

    assert check_workflow(WorkflowSpec.model_validate(workflow["spec"])).cells


def test_every_value_of_the_chart_is_documented():
    values = yaml.safe_load((ROOT / "charts/dawg/values.yaml").read_text())
    text = (DOCS / "install.md").read_text()

    assert [path for path in leaves(values) if f".{path.rpartition('.')[2]}`" not in text and path not in text] == []


def test_generated_references_are_current():
    assert difference(wanted_pages()) == "", "run hack/update-docs"


def test_a_page_without_marks_is_refused_and_not_overwritten():
    with pytest.raises(MarksMissing, match=r"docs/cli\.md lacks the lines"):
        with_generated("# Command line\n", "## dawg run", "cli.md")
