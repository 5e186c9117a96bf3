"""GEOBench-VLM (Danish et al., 2024, arXiv:2411.19325): single choices among five options."""

from lhrs.data.dataset import read_json
from lhrs.data.download import HubSource
from lhrs.errors import DataError
from lhrs.evaluation.benchmark import Benchmark, Item
from lhrs.evaluation.benchmarks._options import letter_index

_FOLDERS = {"single": "Single", "temporal": "Temporal"}


class GeoBenchVlm(Benchmark):
    """Every wording of every question, as the authors ask them; the interval counts a question once.

    The split `temporal` shows the first and the last image of a series, as the authors do. Captions, boxes and masks of
    the release are not used: no public file specifies how they are scored.
    """

    metric = "choice"
    homepage = "https://github.com/The-AI-Alliance/GEO-Bench-VLM"
    license = "Apache-2.0; images of their sources"
    layout = "a folder with Single/qa.json (and Temporal/qa.json) and images"
    download_hint = "Download Single.zip and Temporal.zip from https://huggingface.co/datasets/aialliance/GEOBench-VLM."
    source = HubSource("aialliance/GEOBench-VLM", ("Single.zip", "Temporal.zip"))

    def items(self) -> list[Item]:
        if self.split not in (None, *_FOLDERS):
            raise DataError(f"geobench-vlm has the splits {', '.join(_FOLDERS)}, not {self.split!r}.")
        folder = _FOLDERS[self.split or "single"]
        path = self.root / folder / "qa.json"
        items = []
        # Fields as in eval_geobenchvlm/qwen_cls_single.py and temporal/qwen_cls_temporal.py of the homepage.
        for n, row in enumerate(read_json(path)):
            try:
                files = row["image_path"] if isinstance(row["image_path"], list) else [row["image_path"]]
                images = [str(self._image(folder, file)) for file in ([files[0], files[-1]] if files[1:] else files)]
                options = tuple(str(option).strip() for option in row["options_list"])
                answer = letter_index(row["ground_truth_option"], len(options))
                context = str(row.get("cls_description") or "").strip()
                if len(images) > 1:
                    context = f"The first image was taken before, the second after. {context}".strip()
                same = str(row.get("question_id", n))
                for k, prompt in enumerate(row["prompts"]):
                    question = f"{context}\n{prompt.strip()}".strip()
                    items.append(Item(f"{same}/{k}", tuple(images), question, answer, options, row.get("task"),
                                      question_group=same))  # fmt: skip
            except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
                raise DataError(f"{path}: entry {n} is not GEOBench-VLM's ({error!r}).") from None
        return items

    def _image(self, folder: str, file: str) -> object:
        """Return the path of an image: paths are relative to the folder or to the root of the release."""
        in_folder = self.root / folder / file
        return in_folder if in_folder.exists() else self.root / file
