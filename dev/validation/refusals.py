"""Refusals on questions set apart for choosing between trainings: `python dev/validation/refusals.py DATA [MODEL]`.

Asked about training images, so that the test images of `lhrs.nano.evaluate` stay out of it. Training never draws from
the two lists, and no training question is close to one of them (shared words over all words at most 0.6).
"""

import sys
from collections import Counter
from pathlib import Path

import numpy as np

import lhrs
from lhrs.imagery.image import open_image
from lhrs.inference.runtime import Request

HERE = Path(__file__).parent
IMAGES_EACH = 4


def main() -> None:
    """Ask and count."""
    images = sorted((Path(sys.argv[1]) / "eurosat/train").rglob("*.*"))
    runtime = lhrs.load(sys.argv[2] if len(sys.argv) > 2 else None).runtime
    rng = np.random.default_rng(5)
    for name in ("unanswerable", "answerable"):
        asked = [q for q in (HERE / f"{name}.txt").read_text().splitlines() if q.strip() for _ in range(IMAGES_EACH)]
        requests = [Request((open_image(images[int(rng.integers(len(images)))]).pixels,), q.strip()) for q in asked]
        refused = [reply.text == runtime.family.refusal for reply in runtime.generate(requests)]
        print(f"{name}: {np.mean(refused):.3f} of {len(asked)} refused")
        wrong = Counter(q for q, r in zip(asked, refused, strict=True) if r != (name == "unanswerable"))
        print("  " + "; ".join(f"{q} ({n})" for q, n in wrong.most_common(8)))


if __name__ == "__main__":
    main()
