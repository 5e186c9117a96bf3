"""Make lhrs-nano from public parts: `python recipes/lhrs-nano/build.py --data DATA --encoder LITE0`.

DATA is the folder of the public sets, see `prepare.py`. LITE0 is a folder with timm's `tf_efficientnet_lite0` and its
ImageNet weights (`lhrs convert` writes one from a `.pth`), or the name itself where timm can download. All stages run
in `runs/`. A stage that is done is not repeated, so the command continues where it was stopped.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
RUNS = Path("runs")
DATA = RUNS / "lhrs-nano-data"
QUERIES = DATA / "queries.jsonl"
LANGUAGE = RUNS / "lhrs-nano-language-init"
NUM_QUERIES = 200_000
SETS = {"eurosat": "eurosat", "eurosat_mosaic": "eurosat", "dubai": "dubai_seg"}
"""Folders below DATA that are read as they are, by source."""
PERCEPTION = RUNS / "lhrs-nano-perception"
WEIGHTS = {
    "eurosat": 0.7, "eurosat_mosaic": 0.12, "ucmerced": 2, "ucmerced_small": 0.5, "urban_trees": 1,
    "windows_oscd_rgb": 8, "windows_s2_pins": 10, "windows_lr": 8, "windows_hr": 5, "windows_wetlands": 5,
    "windows_naip": 4,
}  # fmt: skip
"""Weights of sources in the second perception run, which differ from those in perception.yaml."""
SECOND = (
    "output_dir=runs/lhrs-nano-perception-2", "encoder=null", f"init_from={PERCEPTION}", "freeze_bn=true",
    "optim.steps=1200", "optim.batch_size=48", "optim.lr=1.0e-3", "optim.encoder_lr=3.0e-4",
    *(f"sources.{name}.weight={weight}" for name, weight in WEIGHTS.items()),
)  # fmt: skip
"""Changes of perception.yaml for the second run."""
TOKENIZER_TEXTS = 12_000
"""Conversations that the tokenizer is trained on."""


def lhrs(*arguments: str) -> None:
    """Run a command of lhrs; its failure ends this one."""
    done = subprocess.run([sys.executable, "-m", "lhrs", *arguments], check=False)
    if done.returncode:
        sys.exit(done.returncode)


def prepare(data: Path) -> None:
    """Write the perception data and the query data."""
    if not (DATA / "ucmerced.jsonl").exists():
        subprocess.run([sys.executable, str(HERE / "prepare.py"), str(data), str(DATA)], check=True)
    if not QUERIES.exists():
        lhrs("instruct", "queries", "--out", str(QUERIES), "--num", str(NUM_QUERIES))


def make_language_model() -> None:
    """Write the language model with random weights."""
    if LANGUAGE.exists():
        return
    from lhrs.instruct.queries import query_samples
    from lhrs.models.small_language import build_language_model

    texts = [turn.text for sample in query_samples(TOKENIZER_TEXTS, seed=77) for turn in sample.turns]
    build_language_model(texts, LANGUAGE)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run all stages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--out", type=Path, default=RUNS / "lhrs-nano")
    options = parser.parse_args(arguments)
    prepare(options.data)
    paths = [f"sources.{name}.path={options.data / folder}" for name, folder in SETS.items()]
    pretrained = [] if Path(options.encoder).is_dir() else ["encoder.pretrained=true"]
    lhrs("train", str(HERE / "perception.yaml"), *paths, f"encoder.name={options.encoder}", *pretrained)
    lhrs("train", str(HERE / "perception.yaml"), *paths, *SECOND)
    make_language_model()
    lhrs("train", str(HERE / "language.yaml"))
    if not options.out.exists():
        model = str(RUNS / "lhrs-nano-language/model")
        lhrs("export", model, "--out", str(options.out), "--onnx", "--dtype", "float16")


if __name__ == "__main__":
    main()
