"""Harmonized images in other spaces than the models'."""

from __future__ import annotations

from typing import Any

from nipype import Node, Workflow

from imunity_bids.bids.spaces import OutputSpace, space_label
from imunity_bids.hashes import digest
from imunity_bids.interfaces.spaces import BridgeTemplates, WriteInSpace
from imunity_bids.plan.plan import Plan
from imunity_bids.workflows.nodes import TYPICAL_GB, make_node, node_name, step_gb


def init_bridges(plan: Plan) -> dict[str, Node]:
    """From the models' template to each other one that results are wanted in, by its name."""
    settings = plan.settings
    others = {space.template for space in plan.spaces if not space.own} - {settings.template}
    return {
        other: make_node(
            BridgeTemplates(template=settings.template, other=other, seed=settings.random_seed),
            f"bridge_to_{node_name(space_label(other))}",
            settings,
            step_gb("register", TYPICAL_GB),
            depends_on=digest([plan.preprocessing["template_sha256"], plan.space_hashes[other]]),
        )
        for other in sorted(others)
    }


def init_in_space(
    plan: Plan, space: OutputSpace, name: str, common: dict[str, Any], description: str, size: float
) -> Node:
    """Writes the harmonized brain in one more space."""
    interface = WriteInSpace(**common, space=str(space), description=description)
    kept = "" if space.own else plan.space_hashes[space.template]
    label = node_name(f"{space.label}{space.resolution}")
    return make_node(interface, f"write_{name}_in_{label}", plan.settings, step_gb("finish", size), depends_on=kept)


def connect_in_space(
    workflow: Workflow, preprocess: Workflow, harmonize: Node, bridge: Node | None, node: Node
) -> None:
    """Give a node of `init_in_space` what it needs."""
    for output, target in (
        ("native_t1w", "native_t1w"),
        ("native_mask", "native_mask"),
        ("striped", "template_t1w"),
        ("forward", "forward"),
        ("backward", "backward"),
        ("stripe_info", "stripe"),
    ):
        workflow.connect(preprocess, f"outputs.{output}", node, target)
    for output, target in (("out_file", "harmonized"), ("curve", "curve")):
        workflow.connect(harmonize, output, node, target)
    if bridge is not None:
        workflow.connect(bridge, "out_file", node, "bridge")


def spaces_text(plan: Plan) -> str:
    """How results came to other spaces; a generator's pixels can only be resampled."""
    if not plan.spaces:
        return ""
    how = {
        "curves": "by the same curve, applied to the voxels of the scan, which were interpolated at most once",
        "paper": "by resampling the results",
    }
    others = {space.template for space in plan.spaces if not space.own} - {plan.settings.template}
    bridged = f" (affine registration of {plan.settings.template} to it, ANTs)" if others else ""
    names = ", ".join("the scan's own voxels" if space.own else str(space) for space in plan.spaces)
    return f" Results were also written in {names}{bridged}, {how[plan.card['architecture']['kind']]}."
