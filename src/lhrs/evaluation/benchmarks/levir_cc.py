"""LEVIR-CC (Liu et al., 2022, IEEE TGRS, 10.1109/TGRS.2022.3218921): what changed between two images, in a sentence."""

from lhrs.data.dataset import read_json
from lhrs.data.download import HubSource
from lhrs.errors import DataError
from lhrs.evaluation.benchmark import Benchmark, Item

_FILE = "LevirCCcaptions.json"
_QUESTION = "The first image was taken before, the second after. Describe in one sentence what changed."


class LevirCc(Benchmark):
    """Five references per pair of images, scored with BLEU, ROUGE-L and CIDEr; METEOR on request.

    The groups are CIDEr of the pairs with a change and of those without (`changeflag`). The default split is test, with
    1,929 pairs. The authors score references in which rare words are replaced by `<unk>` (`create_input_files` in
    utils.py of their repository); here they are whole.
    """

    metric = "caption"
    homepage = "https://github.com/Chen-Yang-Liu/RSICC"
    license = "images of Google Earth: academic use"
    layout = f"a folder with {_FILE} and images/<split>/A/ and B/"
    download_hint = "Download https://huggingface.co/datasets/lcybuaa/LEVIR-CC and unpack it."
    source = HubSource("lcybuaa/LEVIR-CC")
    groups = {"changed": ("changed",), "unchanged": ("unchanged",)}

    def items(self) -> list[Item]:
        split, near = self.split or "test", self.root / _FILE
        path = near if near.exists() else next(iter(sorted(self.root.glob(f"*/{_FILE}"))), near)
        content = read_json(path)
        rows = content.get("images") if isinstance(content, dict) else None
        if not isinstance(rows, list):
            raise DataError(f"{path} has no list `images`.")
        items, splits = [], set()
        for n, row in enumerate(rows):
            try:
                splits.add(row["split"])
                if row["split"] != split:
                    continue
                name, kind = row["filename"], "changed" if int(row["changeflag"]) else "unchanged"
                pair = tuple(str(path.parent / "images" / split / date / name) for date in "AB")
                captions = tuple(sentence["raw"].strip() for sentence in row["sentences"])
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise DataError(f"{path}: entry {n} is not LEVIR-CC's ({error!r}).") from None
            if captions:
                items.append(Item(name, pair, _QUESTION, captions, type=kind))
            else:
                self.dropped.add("pairs without captions", name)
        if not items:
            raise DataError(f"{path} has no captions of {split!r}; it has {', '.join(sorted(splits)) or 'no splits'}.")
        return items
