"""One image, from raw to conformed, and its brain mask."""

from __future__ import annotations

from pathlib import Path

from nipype import Node, Workflow

from imunity_bids.bids.scan import T1w
from imunity_bids.hashes import sha256
from imunity_bids.interfaces.preprocess import Conform, Denoise, ExtractBrain
from imunity_bids.plan.plan import Plan
from imunity_bids.workflows.nodes import make_node, step_gb, volume_gb

HEAD = ("conformed", "mask", "seen", "conform_info", "brain_info")  # what the steps after this start from


def init_extraction_wf(image: T1w, plan: Plan, crash_file: Path, name: str) -> Workflow:
    """Conform, denoising where it is asked for, brain extraction.

    Inputs
    ------
    The raw image is set when the workflow is built; there is no node to connect to.

    Outputs (of the nodes `conform`, `denoise` if there is one, and `brain`)
    ------------------------------------------------------------------------
    conform.out_file or denoise.out_file, brain.out_file, brain.seen
        The scan in RAS, its brain mask, and that without lesions.
    conform.info, brain.info
        What was mended; method and measures of the mask.
    """
    settings, size = plan.settings, volume_gb(image.path)
    conform = make_node(Conform(in_file=str(image.path)), "conform", settings, step_gb("conform", size))
    brain = make_node(
        ExtractBrain(
            method=settings.skull_strip,
            border=settings.brain_border,
            model=str(settings.brain_model or ""),
            synthstrip_model=str(settings.synthstrip_model or ""),
            device=settings.device,
            use_gpu=settings.device.startswith("cuda"),
        ),
        "brain",
        settings,
        step_gb("brain", size),
        depends_on=plan.preprocessing["brain_weights"],
    )
    if image.brain_mask:
        brain.inputs.given, brain.inputs.given_uri = str(image.brain_mask.path), image.brain_mask.uri
        brain.inputs.depends_on += f" {sha256(image.brain_mask.path)}"
    brain.inputs.lesions = [str(lesion.path) for lesion in image.lesions]
    brain.inputs.lesion_uris = [lesion.uri for lesion in image.lesions]
    brain.inputs.depends_on += "".join(f" {sha256(lesion.path)}" for lesion in image.lesions)
    workflow, scan = Workflow(name), conform
    if settings.denoise == "nlm":
        scan = make_node(Denoise(), "denoise", settings, step_gb("denoise", size))
        workflow.connect(conform, "out_file", scan, "in_file")
    workflow.connect(scan, "out_file", brain, "in_file")
    for step in (conform, scan, brain):
        step.inputs.crash_file = str(crash_file)
    return workflow


def connect_head(workflow: Workflow, extraction: Workflow, head: Node | Workflow, prefix: str = "") -> None:
    """Give what was extracted to a node with the inputs `HEAD`, or to that node of a workflow by its `prefix`."""
    scan = "denoise" if extraction.get_node("denoise") else "conform"
    outputs = (f"{scan}.out_file", "brain.out_file", "brain.seen", "conform.info", "brain.info")
    for output, target in zip(outputs, HEAD, strict=True):
        workflow.connect(extraction, output, head, f"{prefix}{target}")
