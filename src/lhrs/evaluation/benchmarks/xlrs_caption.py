"""XLRS-Bench (Wang et al., 2025, arXiv:2503.23771), detailed captions in English."""

from typing import Any

from lhrs.data.download import HubSource
from lhrs.evaluation.benchmark import Item
from lhrs.evaluation.benchmarks._xlrs import XlrsBenchmark


class XlrsCaption(XlrsBenchmark):
    """Captions of nine parts of an image and of the whole, scored with BLEU, ROUGE-L and CIDEr; METEOR on request.

    The question of each row is asked as it is. The reference is the field `answer` or `caption`; which one the release
    has could not be checked.
    """

    metric = "caption"
    layout = "a folder with the Parquet or Arrow files of initiacms/XLRS-Bench_caption_en"
    download_hint = "Download https://huggingface.co/datasets/initiacms/XLRS-Bench_caption_en."
    source = HubSource("initiacms/XLRS-Bench_caption_en", ("*.parquet", "**/*.parquet", "**/*.arrow"))

    def _item(self, number: int, row: dict[str, Any]) -> Item:
        texts = row["answer"] if "answer" in row else row["caption"]
        references = tuple(text.strip() for text in ([texts] if isinstance(texts, str) else texts))
        if not all(references) or not references:
            raise ValueError("an empty caption")
        return Item(f"{number:05d}", self._unpacked(row["image"]), row["question"].strip(), references)
