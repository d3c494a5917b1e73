"""The scans of one person through a space midway between them, so that they share one mask and one affine."""

from __future__ import annotations

from pathlib import Path

from nipype import Node, Workflow

from imunity_bids.bids.scan import T1w
from imunity_bids.interfaces.visits import FindDeviations, FindMidSpace, ShareField
from imunity_bids.plan.crash import crash_file, person_crash_file
from imunity_bids.plan.plan import Plan
from imunity_bids.workflows.extraction import connect_head, init_extraction_wf
from imunity_bids.workflows.field import UNBIASED, connect_found, init_field_wf
from imunity_bids.workflows.nodes import make_node, merged, node_name, step_gb, visits_gb, volume_gb
from imunity_bids.workflows.preprocess import init_preprocess_wf


def add_visits(plan: Plan, visits: tuple[T1w, ...], workflow: Workflow) -> dict[Path, Workflow]:
    """Preprocessing of all scans of one person, by the path of the scan; a scan that fails takes the others along.

    Inputs, Outputs
    ---------------
    As of `init_preprocess_wf`, for each of them.
    """
    settings, subject = plan.settings, visits[0].subject
    named = {visit: (crash_file(plan, visit), f"{node_name(visit.stem)}_together") for visit in visits}
    heads = [init_extraction_wf(visit, plan, crash, f"{name}_head") for visit, (crash, name) in named.items()]
    fields = [init_field_wf(visit, plan, crash, f"{name}_field", True) for visit, (crash, name) in named.items()]
    parts = [init_preprocess_wf(visit, plan, crash, name, together=True) for visit, (crash, name) in named.items()]
    meet = make_node(
        FindMidSpace(
            template=settings.template,
            kind=settings.registration,
            seed=settings.random_seed,
            crash_file=str(person_crash_file(plan, subject)),
        ),
        f"meet_{node_name(subject)}",
        settings,
        visits_gb(visit.path for visit in visits),
        depends_on=plan.preprocessing["template_sha256"],
    )
    for output, target in (("conform.out_file", "in_files"), ("brain.out_file", "masks"), ("brain.seen", "seens")):
        every = [(head, output) for head in heads]
        workflow.connect(merged(workflow, every, f"merge_{target}_{node_name(subject)}"), "out", meet, target)
    for index, (head, field) in enumerate(zip(heads, fields, strict=True)):
        connect_head(workflow, head, field, "head.")
        field.get_node("register").inputs.index = index
        for output in ("motions", "affine", "mid_mask", "template_mask"):
            workflow.connect(meet, output, field, f"register.{output}")
    even = _share_fields(plan, dict(zip(visits, fields, strict=True)), workflow)
    for visit, field, part in zip(visits, fields, parts, strict=True):
        connect_found(workflow, field, part, "found.", even.get(visit))
    return {visit.path: part for visit, part in zip(visits, parts, strict=True)}


def _share_fields(plan: Plan, fields: dict[T1w, Workflow], workflow: Workflow) -> dict[T1w, Node]:
    """Steps that bring scans to the mean field of those by their scanner; none for scans that are alone with theirs."""
    even = {}
    groups = ({visit, *plan.sharing_field(visit)} for visit in fields)
    for group in dict.fromkeys(tuple(visit for visit in fields if visit in group) for group in groups):
        if len(group) > 1:
            find = _deviations(plan, {visit: fields[visit] for visit in group}, workflow)
            for index, visit in enumerate(group):
                even[visit] = _share(plan, visit, index, find, fields[visit], workflow)
    return even


def _deviations(plan: Plan, fields: dict[T1w, Workflow], workflow: Workflow) -> Node:
    first = next(iter(fields))
    find = make_node(
        FindDeviations(crash_file=str(person_crash_file(plan, first.subject))),
        f"deviations_{node_name(first.stem)}",
        plan.settings,
        visits_gb(visit.path for visit in fields),
    )
    for output, target in (("found.moved", "in_files"), ("found.template_seen", "seens")):
        every = [(field, output) for field in fields.values()]
        workflow.connect(merged(workflow, every, f"merge_{target}_{find.name}"), "out", find, target)
    return find


def _share(plan: Plan, visit: T1w, index: int, find: Node, field: Workflow, workflow: Workflow) -> Node:
    share = make_node(
        ShareField(index=index, crash_file=str(crash_file(plan, visit))),
        f"share_field_{node_name(visit.stem)}",
        plan.settings,
        step_gb("bias", volume_gb(visit.path)),
    )
    for name in (*UNBIASED.values(), "native_seen", "backward"):
        workflow.connect(field, f"found.{name}", share, name)
    workflow.connect(find, "out_files", share, "deviations")
    return share
