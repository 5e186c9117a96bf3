"""LRS-VQA (Luo et al., 2025, arXiv:2503.07588): short answers about images of up to 27,328 pixels a side."""

from collections import Counter

from lhrs.data.dataset import read_json_lines
from lhrs.data.image_files import ImageFinder
from lhrs.errors import DataError
from lhrs.evaluation.benchmark import Benchmark, Item

_FILE = "LRS_VQA_merged.jsonl"


class LrsVqa(Benchmark):
    """Eight categories of questions; `mean_of_types` is the authors' average accuracy (AA), `accuracy` their OA.

    The authors score each of the sources FAIR1M, GLH-Bridge and STAR by itself, by the part of an answer's `id` before
    the first underscore (evaluation_LRSVQA.py). A split is that part of `question_id`; whether the released file has it
    could not be checked. Their scorer also accepts synonyms of WordNet with a path similarity above 0.8; here only the
    exact answer is correct, so that scores are lower.
    """

    metric = "vqa"
    homepage = "https://github.com/VisionXLab/LRS-VQA"
    license = "images of FAIR1M, GLH-Bridge and STAR: academic use"
    layout = f"a folder with {_FILE} (or LRS_VQA/{_FILE}) and image/"
    download_hint = (
        "Download LRS_VQA.7z.* from https://huggingface.co/datasets/ll-13/LRS-VQA and unpack the first part."
    )

    def items(self) -> list[Item]:
        near = [self.root / _FILE, self.root / "LRS_VQA" / _FILE]
        path = next((p for p in near if p.exists()), near[0])
        finder = ImageFinder(path.parent, path.parent / "image", path.parent.parent)
        items, sources, seen = [], set(), Counter[str]()
        for where, row in read_json_lines(path):
            try:
                identity = str(row["question_id"])
                sources.add(identity.partition("_")[0])
                if self.split in (None, identity.partition("_")[0]):
                    image = str(finder.find_or_expected(str(row["image"])))
                    question, answer = str(row["text"]).strip(), str(row["ground_truth"]).strip()
                    unique = f"{identity}#{seen[identity]}" if seen[identity] else identity
                    items.append(Item(unique, (image,), question, answer, type=str(row["category"])))
                    seen[identity] += 1
            except KeyError as error:
                raise DataError(f"{where}: not LRS-VQA's: it has no {error}.") from None
        if not items:
            raise DataError(
                f"{path} has no questions of {self.split!r}; it has those of {', '.join(sorted(sources)) or 'none'}."
            )
        return items
