"""File to brain mask in a fresh process each: seconds (with and without imports) and peak memory.

python benchmarks/brain.py sub-01_T1w.nii.gz
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

CODE = """
import json, resource, sys, time
begin = time.perf_counter()
import torch
from imunity_bids.image.conform import conform, read_image
from imunity_bids.image.extraction import extract_brain
from pathlib import Path
torch.set_num_threads(int(sys.argv[3]))
start = time.perf_counter()
image, _ = conform(*read_image(Path(sys.argv[1])))
brain = extract_brain(image, sys.argv[2])
end = time.perf_counter()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
print(json.dumps([end - start, end - begin, peak, brain.volume_ml]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image", type=Path)
    parser.add_argument("--methods", nargs="+", default=["network", "ants"])
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    print("method   seconds  with imports  peak GB  volume mL")
    for method in options.methods:
        call = [sys.executable, "-c", CODE, str(options.image), method, str(options.threads)]
        out = subprocess.run(call, check=True, capture_output=True, text=True).stdout
        seconds, whole, peak, volume = json.loads(out.splitlines()[-1])
        print(f"{method:8} {seconds:7.1f} {whole:13.1f} {peak:8.2f} {volume:10.0f}")


if __name__ == "__main__":
    main()
