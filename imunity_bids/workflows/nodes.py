"""Nodes with the run's threads, the memory that their image needs, and all that their result depends on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from nipype import Node, Workflow
from nipype.interfaces.utility import Merge

from imunity_bids import version
from imunity_bids.settings import Settings

# What a step takes at its peak: its process, and so many times the image as float32 (benchmarks/memory.py), in GB.
STEP_GB = {
    "conform": (0.4, 3),
    "denoise": (0.4, 6),
    "brain": (0.6, 8),
    "register": (1.0, 10),
    "bias": (0.6, 16),
    "stripe": (0.7, 0),
    "write": (0.5, 5),
    "reference": (1.5, 0),
    "harmonize": (1.7, 0),
    "finish": (0.7, 9),
}
VISITS_GB = (1.0, 12)  # of the space between scans of one person, of which all are in memory
TYPICAL_GB = 0.036  # float32 voxels of a head of 1 mm, where a header cannot be read


def make_node(interface: object, name: str, settings: Settings, mem_gb: float, depends_on: str = "") -> Node:
    """A node of the run.

    Parameters
    ----------
    mem_gb
        What it takes at its peak (benchmarks/memory.py); no more than the run has, or it would never start.
    depends_on
        Hash of weights or templates: with other ones a kept work folder does not serve.
    """
    node = Node(interface, name=name, mem_gb=min(mem_gb, settings.mem_gb), n_procs=settings.omp_nthreads)
    node.inputs.threads = settings.omp_nthreads
    node.inputs.depends_on = f"{version()} {depends_on}"
    return node


def merged(workflow: Workflow, sources: Sequence[tuple[Node | Workflow, str]], name: str) -> Node:
    """The outputs of several nodes as one list, in their order: the output `out` of the node."""
    merge = Node(Merge(len(sources)), name=name)
    for number, (source, output) in enumerate(sources, start=1):
        workflow.connect(source, output, merge, f"in{number}")
    return merge


def node_name(text: str) -> str:
    """Letters, digits and underscores only."""
    return re.sub(r"\W", "_", text.replace("+", "_plus_"))


def step_gb(step: str, size: float) -> float:
    """Memory of a step of `STEP_GB` for an image of `size` GB."""
    process, times = STEP_GB[step]
    return process + times * size


def image_gb(path: Path) -> float:
    """Memory of the step that takes most, for an image."""
    size = volume_gb(path)
    return max(step_gb(step, size) for step in STEP_GB)


def visits_gb(paths: Iterable[Path]) -> float:
    """Memory of the step that finds the space between scans of one person."""
    process, times = VISITS_GB
    return process + times * sum(map(volume_gb, paths))


def volume_gb(path: Path) -> float:
    """Memory of the first volume of an image as float32, in GB, by its header."""
    try:
        return float(np.prod(nib.load(path).shape[:3])) * 4 / 1024**3
    except (OSError, EOFError, ValueError, nib.filebasedimages.ImageFileError):  # its own step says what is wrong
        return TYPICAL_GB
