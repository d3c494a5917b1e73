"""One image, from its head and brain mask to the template, and without its bias field."""

from __future__ import annotations

from pathlib import Path

from nipype import Node, Workflow
from nipype.interfaces.utility import IdentityInterface

from imunity_bids.bids.scan import T1w
from imunity_bids.interfaces.preprocess import CorrectBias, Register
from imunity_bids.interfaces.visits import PlaceVisit
from imunity_bids.plan.plan import Plan
from imunity_bids.workflows.extraction import HEAD, connect_head, init_extraction_wf
from imunity_bids.workflows.nodes import make_node, step_gb, volume_gb

UNBIASED = {"out_file": "native_t1w", "field": "field", "moved": "moved", "info": "bias_info"}
FOUND = (
    "conformed", "native_mask", "native_seen", *UNBIASED.values(), "template_mask", "template_seen",
    "forward", "backward", "conform_info", "brain_info", "registration_info",
)  # fmt: skip


def init_field_wf(image: T1w, plan: Plan, crash_file: Path, name: str, together: bool = False) -> Workflow:
    """Registration and bias field.

    Inputs
    ------
    The raw image is set when the workflow is built; there is no node to connect to, unless the scan shares its space
    with others (`together`): then `workflows.visits` connects the nodes `head` and `register`, and the mask is shared.

    Outputs (of the node `found`)
    -----------------------------
    conformed, native_mask, native_seen, native_t1w, field
        The scan in RAS (denoised where that is asked for), its brain mask, the same without lesions, the scan without
        bias field, and that field, on the scan's own voxels.
    template_mask, template_seen, moved
        Brain mask, the same without lesions, and the scan without bias field, in template space.
    forward, backward
        ITK transforms: image to template, template to image.
    conform_info, brain_info, bias_info, registration_info
        What was mended; method and measures of the mask; how the field was estimated; measures of the registration.
    """
    settings, size = plan.settings, volume_gb(image.path)
    known = {"depends_on": plan.preprocessing["template_sha256"]}
    head, found = (
        Node(IdentityInterface(list(fields)), name=name) for fields, name in ((HEAD, "head"), (FOUND, "found"))
    )
    alone = Register(template=settings.template, kind=settings.registration, seed=settings.random_seed)
    place = PlaceVisit(template=settings.template) if together else alone
    register = make_node(place, "register", settings, step_gb("register", size), **known)
    correct = CorrectBias(template=settings.template, method=settings.bias_correction)
    bias = make_node(correct, "bias", settings, step_gb("bias", size), **known)
    register.inputs.crash_file = bias.inputs.crash_file = str(crash_file)

    workflow = Workflow(name)
    if not together:
        connect_head(workflow, init_extraction_wf(image, plan, crash_file, f"{name}_head"), head)
    masked, (mask, seen) = (register, ("native_mask", "native_seen")) if together else (head, ("mask", "seen"))
    workflow.connect(
        [
            (head, register, [("conformed", "in_file"), ("mask", "mask"), ("seen", "seen")]),
            (head, bias, [("conformed", "in_file")]),
            (masked, bias, [(mask, "mask"), (seen, "seen")]),
            (register, bias, [("mask", "template_mask")]),
            (register, bias, [(name, name) for name in ("forward", "backward", "overlap")]),
            (head, found, [(name, name) for name in ("conformed", "conform_info", "brain_info")]),
            (masked, found, [(mask, "native_mask"), (seen, "native_seen")]),
            (register, found, [("mask", "template_mask"), ("seen", "template_seen"), ("info", "registration_info")]),
            (register, found, [("forward", "forward"), ("backward", "backward")]),
            (bias, found, list(UNBIASED.items())),
        ]
    )
    return workflow


def connect_found(
    workflow: Workflow, field: Workflow, found: Node | Workflow, prefix: str = "", even: Node | None = None
) -> None:
    """Give what was found to a node with the inputs `FOUND`, or to that node of a workflow by its `prefix`.

    `even` is a step that has seen to the field once more: its outputs count.
    """
    for name in FOUND:
        if even is None or name not in UNBIASED.values():
            workflow.connect(field, f"found.{name}", found, f"{prefix}{name}")
    if even is not None:
        for output, name in UNBIASED.items():
            workflow.connect(even, output, found, f"{prefix}{name}")
