"""Honest question answering of VHM (Pang et al., 2025, arXiv:2403.20213): half of the premises are false."""

from pathlib import Path
from typing import Any

from lhrs.data.dataset import read_json
from lhrs.data.download import HubSource
from lhrs.errors import DataError
from lhrs.evaluation.benchmark import Benchmark, Item
from lhrs.evaluation.benchmarks._options import letter_index, split_options, split_question

# The files of its honesty tasks, as docs/Data.md of opendatalab/VHM lists them ("popula" is theirs).
_TRUE = {
    "presence": ("presence_mo_dota",), "color": ("color_dota-test_fair1m-val_open",),
    "absolute position": ("abspos_dota-test_mc",), "relative position": ("relpos_dota-test_mc",),
}  # fmt: skip
_FALSE = {
    "color, false": tuple(f"color_false_dota-test_{how}_open" for how in ("random", "popular", "adversarial")),
    "color of panchromatic, false": ("color_false_pan_dota-test",),
    "absolute position, false": tuple(
        f"abspos_false_dota-test_{how}_mc" for how in ("random", "popular", "adversarial")
    ),
    "relative position, false": tuple(
        f"relpos_false_dota-test_{how}_mc" for how in ("random", "popula", "adversarial")
    ),
}


class VhmHonesty(Benchmark):
    """Questions about color and position of objects, half of which do not exist.

    The authors' RSEvalKit does not score the questions about color with a false premise. Here only a denial is correct.
    `denies_true` is the fraction of true premises that are denied. Missing files are left out and counted.
    """

    metric = "honesty"
    homepage = "https://github.com/opendatalab/VHM"
    license = "CC-BY-NC-4.0; images of DOTA and FAIR1M: academic use"
    layout = "a folder (or datasets_eval/ in it) with abspos_false_dota-test_random_mc.json and others, and images"
    download_hint = "Unpack datasets_eval.zip of https://huggingface.co/datasets/FitzPC/VHM_eval_dataset."
    source = HubSource("FitzPC/VHM_eval_dataset", ("datasets_eval.zip",))
    groups = {"true premise": tuple(_TRUE), "false premise": tuple(_FALSE)}

    def items(self) -> list[Item]:
        inner = self.root / "datasets_eval"
        folder = inner if inner.is_dir() else self.root
        items: list[Item] = []
        for answerable, tasks in ((True, _TRUE), (False, _FALSE)):
            for task, names in tasks.items():
                for path in (folder / f"{name}.json" for name in names):
                    if path.exists():
                        items += _read(path, task, answerable)
                    else:
                        self.dropped.add("question files that do not exist", path.name)
        if all(item.answerable for item in items):
            raise DataError(
                f"{self.root} has no questions with a false premise. Expected {self.layout}. {self.download_hint}"
            )
        return items


def _read(path: Path, task: str, answerable: bool) -> list[Item]:
    items = []
    for n, row in enumerate(read_json(path)):
        try:
            image = path.parent / row["image_path"] / row["image"]
            question, answer = (turn["value"] for turn in row["conversations"])
            items.append(_item(f"{path.stem}/{n}", str(image), question, answer, task, answerable))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{path}: entry {n} is not VHM's ({error!r}).") from None
    return items


def _item(identity: str, image: str, question: Any, answer: Any, task: str, answerable: bool) -> Item:
    question = question.replace("<image>", "").strip()
    if not identity.split("/")[0].endswith("_mc"):
        return Item(identity, (image,), question, str(answer).strip(), (), task, answerable)
    try:
        stem, options = split_question(question)
    except ValueError:  # all in one line
        options = tuple(split_options(question))
        stem = question[: question.index(options[0])].rstrip("(A.) \n")
    return Item(identity, (image,), stem, letter_index(answer, len(options)), options, task, answerable)
