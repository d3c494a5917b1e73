"""Peak memory of each step in a process of its own, beside what its node asks for (workflows/preprocess.py).

python benchmarks/memory.py sub-01_T1w.nii.gz [more images, of other sizes]
"""

from __future__ import annotations

import argparse
import resource
import tempfile
from multiprocessing import get_context
from pathlib import Path
from typing import Any

GB = 1024**2  # ru_maxrss counts kB


def work(step: str, inputs: dict[str, Any], folder: str, results: Any) -> None:
    """In the child: one step, its outputs and the process's peak."""
    import torch

    from imunity_bids.interfaces import harmonize, preprocess

    torch.set_num_threads(1)
    interface = getattr(preprocess, step, None) or getattr(harmonize, step)
    outputs = interface(**inputs).work(Path(folder))
    results.put((outputs, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / GB))


def measured(step: str, folder: str, **inputs: Any) -> tuple[dict[str, Any], float]:
    """Outputs of a step and its peak in GB."""
    context = get_context("spawn")
    results = context.Queue()
    process = context.Process(target=work, args=(step, inputs, folder, results))
    process.start()
    answer = results.get()
    process.join()
    return answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--template", default="MNI152NLin2009aSym")
    options = parser.parse_args()

    from imunity_bids.models.card import find_bundle
    from imunity_bids.workflows.nodes import volume_gb

    print(f"{'image':28} {'GB as float32':>13}  peak GB of each step")
    for image in options.images:
        with tempfile.TemporaryDirectory() as folder:
            peaks = {}
            conform, peaks["conform"] = measured("Conform", folder, in_file=str(image))
            scan = conform["out_file"]
            brain, peaks["brain"] = measured("ExtractBrain", folder, in_file=scan)
            mask = brain["out_file"]
            moved, peaks["register"] = measured("Register", folder, in_file=scan, mask=mask, template=options.template)
            where = {name: moved[name] for name in ("forward", "backward", "overlap")} | {
                "template_mask": moved["mask"]
            }
            bias, peaks["bias"] = measured(
                "CorrectBias", folder, in_file=scan, mask=mask, template=options.template, **where
            )
            stripe, peaks["stripe"] = measured(
                "WhiteStripe", folder, in_file=bias["moved"], mask=moved["mask"], template=options.template
            )
            bundle = str(find_bundle("imunity"))
            _, peaks["models"] = measured(
                "Harmonize", folder, in_file=stripe["out_file"], mask=moved["mask"], model=bundle,
                reference_label="default",
            )  # fmt: skip
            text = "  ".join(f"{name} {peak:.2f}" for name, peak in peaks.items())
            print(f"{image.name[:28]:28} {volume_gb(image):13.3f}  {text}", flush=True)


if __name__ == "__main__":
    main()
