"""Base class of the retrieval benchmarks, whose captions are in one file in Karpathy's format."""

from typing import ClassVar

from lhrs.data.dataset import read_json
from lhrs.errors import DataError
from lhrs.evaluation.benchmark import Benchmark, Item
from lhrs.metrics.retrieval import IMAGE_TO_TEXT, TEXT_TO_IMAGE


class RetrievalBenchmark(Benchmark):
    """Each image of the split is searched by each caption of the split, and the other way round.

    Candidates are all images, named by their file, and all captions, named `FILE#N`; these names are also the ids of
    the queries. A caption belongs to its own image only, even if another image has the same. The default split is test.
    """

    metric = "retrieval"
    file: ClassVar[str]
    folder: ClassVar[str]

    def items(self) -> list[Item]:
        path, split = self.root / self.file, self.split or "test"
        content = read_json(path)
        rows = content.get("images") if isinstance(content, dict) else None
        if not isinstance(rows, list):
            raise DataError(f"{path} has no list `images`.")
        captions: dict[str, list[str]] = {}
        for n, row in enumerate(rows):
            try:
                if row["split"] == split:
                    texts = [sentence["raw"].strip() for sentence in row["sentences"]]
                    captions.setdefault(row["filename"], []).extend(text for text in texts if text)
            except (KeyError, TypeError, AttributeError) as error:
                raise DataError(f"{path}: entry {n} is not {self.name()}'s ({error!r}).") from None
        for name in [name for name, texts in captions.items() if not texts]:
            self.dropped.add("images without captions", name)
            del captions[name]
        if not captions:
            raise DataError(f"{path} has no captions of the split {split!r}.")
        images = [
            Item(name, (str(self.root / self.folder / name),), "", tuple(f"{name}#{k}" for k in range(len(texts))),
                 type=IMAGE_TO_TEXT)
            for name, texts in captions.items()
        ]  # fmt: skip
        texts = [
            Item(f"{name}#{k}", (), text, (name,), type=TEXT_TO_IMAGE)
            for name, texts in captions.items() for k, text in enumerate(texts)
        ]  # fmt: skip
        return images + texts
