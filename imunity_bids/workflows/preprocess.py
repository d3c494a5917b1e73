"""One image, from raw to white-striped in template space."""

from __future__ import annotations

from pathlib import Path

from nipype import Node, Workflow
from nipype.interfaces.utility import IdentityInterface

from imunity_bids.bids.inputs import T1w
from imunity_bids.interfaces.preprocess import Conform, CorrectBias, ExtractBrain, Register, WhiteStripe
from imunity_bids.settings import Settings

OUTPUTS = (
    "conformed", "native_mask", "native_t1w", "template_mask", "striped", "forward", "backward",
    "conform_info", "brain_info", "registration_info", "stripe_info",
)  # fmt: skip


def node(interface: object, name: str, settings: Settings, mem_gb: float) -> Node:
    """A node that takes the run's threads and asks for the memory that was seen on a 1 mm head."""
    made = Node(interface, name=name, mem_gb=min(mem_gb, settings.mem_gb), n_procs=settings.omp_nthreads)
    if "threads" in made.inputs.copyable_trait_names():
        made.inputs.threads = settings.omp_nthreads
    return made


def init_preprocess_wf(image: T1w, settings: Settings, crash_file: Path, name: str) -> Workflow:
    """Conform, brain extraction, N4, registration, white stripe; results at the node `outputs`."""
    conform = node(Conform(in_file=str(image.path)), "conform", settings, 1.0)
    brain = node(
        ExtractBrain(
            method=settings.skull_strip,
            border=settings.brain_border,
            model=str(settings.brain_model or ""),
            synthstrip_model=str(settings.synthstrip_model or ""),
        ),
        "brain",
        settings,
        1.5,
    )
    bias = node(CorrectBias(), "bias", settings, 1.5)
    register = node(
        Register(template=settings.template, kind=settings.registration, seed=settings.random_seed),
        "register",
        settings,
        2.0,
    )
    stripe = node(WhiteStripe(), "stripe", settings, 1.0)
    outputs = Node(IdentityInterface(list(OUTPUTS)), name="outputs")
    for step in (conform, brain, bias, register, stripe):
        step.inputs.crash_file = str(crash_file)

    workflow = Workflow(name)
    workflow.connect(
        [
            (conform, brain, [("out_file", "in_file")]),
            (conform, bias, [("out_file", "in_file")]),
            (brain, bias, [("out_file", "mask")]),
            (bias, register, [("out_file", "in_file")]),
            (brain, register, [("out_file", "mask")]),
            (register, stripe, [("out_file", "in_file"), ("mask", "mask")]),
            (conform, outputs, [("out_file", "conformed"), ("info", "conform_info")]),
            (brain, outputs, [("out_file", "native_mask"), ("info", "brain_info")]),
            (bias, outputs, [("out_file", "native_t1w")]),
            (
                register,
                outputs,
                [
                    ("mask", "template_mask"),
                    ("forward", "forward"),
                    ("backward", "backward"),
                    ("info", "registration_info"),
                ],
            ),
            (stripe, outputs, [("out_file", "striped"), ("info", "stripe_info")]),
        ]
    )
    return workflow
