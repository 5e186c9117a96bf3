"""CPU milliseconds an image of CMID's input pipeline: `python benchmarks/cmid_input.py [-n 5]`.

From a 512-pixel window in memory to two normalized 224-pixel views with masks and pairs, in batches of 32; one thread.
Decoding the file, which is the file's own cost, is told apart. Medians.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from lhrs.cmid.two_views import TwoViewDataset, augment_and_normalize, collate
from lhrs.data.unlabeled import UnlabeledWindows

COUNT = 32


def cpu_ms(what: Callable[[], object], rounds: int) -> float:
    what()
    timings = []
    for _ in range(rounds):
        start = time.process_time()
        what()
        timings.append(time.process_time() - start)
    return float(np.median(timings)) / COUNT * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=5, help="rounds")
    rounds = parser.parse_args().n
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        for n in range(COUNT):
            small = Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8))
            small.resize((512, 512), Image.Resampling.BICUBIC).save(Path(folder) / f"{n}.jpg", quality=90)
        windows = UnlabeledWindows([folder], 512)
        views = TwoViewDataset(windows, 224, 7)
        decoded = [windows[0, n] for n in range(COUNT)]
        decode = cpu_ms(lambda: [windows[0, n] for n in range(COUNT)], rounds)
        windows.__class__.__getitem__, original = lambda _self, key: decoded[key[1]], windows.__class__.__getitem__
        samples = [views[0, n] for n in range(COUNT)]
        cut = cpu_ms(lambda: [views[0, n] for n in range(COUNT)], rounds)
        windows.__class__.__getitem__ = original
        join = cpu_ms(lambda: collate(samples), rounds)
        batch, mean, std = collate(samples), torch.full((3,), 0.4), torch.full((3,), 0.2)
        done = cpu_ms(lambda: augment_and_normalize(batch["views"], batch["color_jitter"], 255.0, mean, std), rounds)
    print(f"decode a JPEG     {decode:6.2f} ms\ncrops and masks   {cut:6.2f} ms\nbatch and pairs   {join:6.2f} ms")
    print(f"colors           {done:6.2f} ms\nwithout decoding  {cut + join + done:6.2f} ms")


if __name__ == "__main__":
    main()
