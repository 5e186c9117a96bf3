"""`lhrs classify` over 1,000 small pictures: `python benchmarks/classify_1000.py [--images FOLDER] [--model FOLDER]`.

Without a folder of pictures it makes 64 x 64 PNGs of smooth random color in a temporary one; what is on a picture
does not change the time it takes.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from report import report

LABELS = "AnnualCrop,Forest,HerbaceousVegetation,Highway,Industrial,Pasture,PermanentCrop,Residential,River,SeaLake"
NUM_IMAGES = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--model", default="lhrs-nano")
    parser.add_argument("-n", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        images = options.images or make_images(Path(folder))
        command = [sys.executable, "-m", "lhrs", "classify", str(images), "--json", "--model", options.model]
        names = {"ten labels given": [*command, "--labels", LABELS], "free text": command}
        timings_s: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(options.n):
            for name, arguments in names.items():
                start = time.perf_counter()
                done = subprocess.run(arguments, check=True, capture_output=True, text=True)
                timings_s[name].append(time.perf_counter() - start)
                num_answers = len(done.stdout.splitlines())
    print(f"{num_answers:,} images")
    report("classify_1000", timings_s, dict.fromkeys(names, 30.0))


def make_images(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    for n in range(NUM_IMAGES):
        coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8))
        coarse.resize((64, 64), Image.Resampling.BICUBIC).save(folder / f"{n:04}.png")
    return folder


if __name__ == "__main__":
    main()
