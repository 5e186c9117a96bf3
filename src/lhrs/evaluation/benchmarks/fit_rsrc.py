"""FIT-RSRC (Luo et al., 2024, arXiv:2406.10100): single choices about relations between objects."""

from collections import Counter

from lhrs.data.dataset import read_json_lines
from lhrs.data.image_files import ImageFinder
from lhrs.errors import DataError
from lhrs.evaluation.benchmark import Benchmark, Item
from lhrs.evaluation.benchmarks._options import letter_index, split_options, split_question

_FILE = "FIT-RSRC_Questions_2k.jsonl"


class FitRsrc(Benchmark):
    """Four categories: relationship, object, subject, exist. The file holds the rotations of every question's options.

    As in the authors' CircularEval (`evaluation_metrics` of batch_fitrsrc_single_choice_qa.py), rows of the same
    `question_id` and `category` are one question, which counts only if all its rows are answered correctly.
    Their scorer takes the first lone letter of an answer; here an answer must be a letter or an option. The layout of
    the options within `text` is not documented: `A. one` on lines or in one line is read.
    """

    metric = "choice"
    homepage = "https://github.com/Luo-Z13/SkySenseGPT"
    license = "Apache-2.0; images of STAR: academic use"
    layout = f"a folder with {_FILE} (or FIT-RSRC/{_FILE}) and its images"
    download_hint = "Download FIT-RSRC from https://huggingface.co/datasets/ll-13/FIT-RS and unpack its images."
    all_wordings = True

    def items(self) -> list[Item]:
        near = [self.root / _FILE, self.root / "FIT-RSRC" / _FILE]
        path = next((p for p in near if p.exists()), near[0])
        folders = (path.parent, path.parent / "Images", path.parent / "imgv2_split_512_100_vaild")  # "vaild" is theirs
        finder, items, seen = ImageFinder(*folders), [], Counter[str]()
        for where, row in read_json_lines(path):
            try:
                category = str(row["category"]).lower()
                question, options = _split(str(row["text"]).replace("<image>", "").strip())
                answer = letter_index(row["ground_truth"], len(options))
                image = str(finder.find_or_expected(str(row["image"])))
                group = f"{row['question_id']}/{category}"
            except (KeyError, TypeError, ValueError) as error:
                raise DataError(f"{where}: not FIT-RSRC's ({error!r}).") from None
            items.append(Item(f"{group}/{seen[group]}", (image,), question, answer, options, category,
                              question_group=group))  # fmt: skip
            seen[group] += 1
        return items


def _split(text: str) -> tuple[str, tuple[str, ...]]:
    try:
        return split_question(text)
    except ValueError:  # all in one line
        options = tuple(split_options(text))
        return text[: text.index(options[0])].rstrip("(A.) \n"), options
