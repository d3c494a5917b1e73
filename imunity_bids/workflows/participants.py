"""All images of a run, each with its own branch, and the references they share."""

from __future__ import annotations

import re
from pathlib import Path

from nipype import Node, Workflow
from nipype.interfaces.utility import Merge

from imunity_bids.bids.inputs import T1w
from imunity_bids.hashes import digest, sha256
from imunity_bids.interfaces.derivatives import WriteHarmonized, WritePreprocessed
from imunity_bids.interfaces.harmonize import EncodeReference, Harmonize
from imunity_bids.plan.crash import crash_file, reference_crash_file
from imunity_bids.plan.parameters import preprocessing
from imunity_bids.plan.plan import Plan
from imunity_bids.plan.requests import ReferenceRequest
from imunity_bids.workflows.preprocess import init_preprocess_wf, node


def init_participants_wf(plan: Plan) -> Workflow:
    """The whole run. An image that serves as input and as reference is preprocessed once."""
    workflow = Workflow("imunity_wf", base_dir=str(plan.settings.scratch))
    preprocessed: dict[Path, Workflow] = {}

    def preprocess(image: T1w) -> Workflow:
        if image.path not in preprocessed:
            name = _node_name(image.stem) + "_" + digest(str(image.path))[:6]
            preprocessed[image.path] = init_preprocess_wf(image, plan.settings, crash_file(plan, image), name)
            workflow.add_nodes([preprocessed[image.path]])
        return preprocessed[image.path]

    encoders = {}
    for reference in plan.references:
        if reference.images:
            encoders[reference.label] = _reference_source(plan, reference, workflow, preprocess)
    for image in plan.images:
        _add_image(plan, image, workflow, preprocess(image), encoders)
    return workflow


def _add_image(
    plan: Plan, image: T1w, workflow: Workflow, preprocess: Workflow, encoders: dict[str, Node | str]
) -> None:
    settings = plan.settings
    fingerprint = sha256(image.path)
    name = _node_name(image.stem)
    common = {
        "source": str(image.path),
        "bids_dir": str(settings.bids_dir),
        "output_dir": str(settings.output_dir),
        "template": settings.template,
        "crash_file": str(crash_file(plan, image)),
    }
    write = node(WritePreprocessed(**common), f"write_{name}", settings, 1.5)
    shared = [
        ("outputs.conformed", "native_image"),
        ("outputs.native_mask", "native_mask"),
        ("outputs.template_mask", "template_mask"),
        ("outputs.backward", "backward"),
        ("outputs.brain_info", "brain"),
        ("outputs.stripe_info", "stripe"),
    ]
    images = [
        ("outputs.native_t1w", "native_t1w"),
        ("outputs.striped", "template_t1w"),
        ("outputs.forward", "forward"),
    ]
    workflow.connect(preprocess, "outputs.conformed", write, "native_image")
    for start, end in [*shared[1:], *images]:
        workflow.connect(preprocess, start, write, end)

    for reference in plan.references:
        model = {
            "model": str(plan.bundle),
            "device": settings.device,
            "batch_size": settings.batch_size,
            "precision": settings.precision,
            "crash_file": common["crash_file"],
        }
        label = _node_name(reference.label)
        harmonize = node(Harmonize(**model), f"harmonize_{name}_to_{label}", settings, 2.5)
        finish = node(
            WriteHarmonized(
                **common,
                description=plan.description(reference),
                native_space="T1w" in settings.output_spaces,
                provenance=_provenance(plan, fingerprint, reference),
            ),
            f"finish_{name}_to_{label}",
            settings,
            1.5,
        )
        source = encoders.get(reference.label)
        if source is None:
            harmonize.inputs.reference_label = reference.label
        elif isinstance(source, str):
            harmonize.inputs.reference_file = source
        else:
            workflow.connect(source, "out_file", harmonize, "reference_file")
        workflow.connect(preprocess, "outputs.striped", harmonize, "in_file")
        workflow.connect(preprocess, "outputs.template_mask", harmonize, "mask")
        for start, end in shared:
            workflow.connect(preprocess, start, finish, end)
        workflow.connect(preprocess, "outputs.conform_info", finish, "conform")
        workflow.connect(preprocess, "outputs.registration_info", finish, "registration")
        workflow.connect(harmonize, "out_file", finish, "harmonized")
        workflow.connect(harmonize, "uncertainty", finish, "uncertainty")
        workflow.connect(harmonize, "info", finish, "info")
        workflow.connect(write, "done", finish, "waited_for")


def _reference_source(plan: Plan, reference: ReferenceRequest, workflow: Workflow, preprocess) -> Node | str:
    """The node that encodes a reference, or its file where an earlier run left it."""
    settings = plan.settings
    key = digest(
        [reference.sha256, preprocessing(settings), plan.card["sha256"], settings.reference_slices, reference.label]
    )
    cache = settings.output_dir / ".imunity_cache" / f"{key}.safetensors"
    if cache.is_file():
        return str(cache)
    encode = node(
        EncodeReference(
            label=reference.label,
            kind=reference.kind,
            sha256=reference.sha256,
            model=str(plan.bundle),
            slices=settings.reference_slices,
            cache=str(cache),
            crash_file=str(reference_crash_file(plan, reference)),
        ),
        f"reference_{_node_name(reference.label)}",
        settings,
        1.5,
    )
    for output, target in (("outputs.striped", "in_files"), ("outputs.template_mask", "masks")):
        merge = Node(Merge(len(reference.images)), name=f"merge_{target}_{_node_name(reference.label)}")
        for index, image in enumerate(reference.images, start=1):
            workflow.connect(preprocess(image), output, merge, f"in{index}")
        workflow.connect(merge, "out", encode, target)
    return encode


def _provenance(plan: Plan, fingerprint: str, reference: ReferenceRequest) -> dict:
    hashes = plan.card["sha256"]
    return {
        "Bundle": {
            "Name": plan.card["name"],
            "Version": plan.card["version"],
            "License": plan.card["license"],
            "SHA256": {name: value for name, value in hashes.items() if name != "references"},
        },
        "ParametersHash": plan.parameters(fingerprint, reference),
        "InputSHA256": fingerprint,
        "Seed": plan.settings.random_seed,
        "ReferenceSlices": plan.settings.reference_slices,
        "Template": plan.settings.template,
        "Registration": plan.settings.registration,
    }


def _node_name(text: str) -> str:
    return re.sub(r"\W", "_", text.replace("+", "_plus_"))
