"""The scans of one person through a space midway between them, so that they share one mask and one affine."""

from __future__ import annotations

from pathlib import Path

from nipype import Workflow

from imunity_bids.bids.scan import T1w
from imunity_bids.interfaces.visits import FindMidSpace
from imunity_bids.plan.crash import crash_file, person_crash_file
from imunity_bids.plan.plan import Plan
from imunity_bids.workflows.extraction import connect_head, init_extraction_wf
from imunity_bids.workflows.nodes import make_node, merged, node_name, visits_gb
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
    for index, (head, part) in enumerate(zip(heads, parts, strict=True)):
        connect_head(workflow, head, part, "head.")
        part.get_node("register").inputs.index = index
        for output in ("motions", "affine", "mid_mask", "template_mask"):
            workflow.connect(meet, output, part, f"register.{output}")
    return {visit.path: part for visit, part in zip(visits, parts, strict=True)}
