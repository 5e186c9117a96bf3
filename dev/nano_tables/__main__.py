"""Score a model on held-out images and on data judged by eye: one table for each section.

    python -m dev.nano_tables lhrs-nano --data ../shared/data --prepared DIR --ood DIR --out results/lhrs-nano

DIR of `--prepared` is what `recipes/lhrs-nano/prepare.py` writes, DIR of `--ood` what `dev/ood_sets.py` writes. Every
question is asked as the methods of `lhrs.Assistant` ask it. Each section becomes `OUT/NAME.json` and `OUT/NAME.md`.
"""

import argparse
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path

from dev.nano_tables.objects import objects
from dev.nano_tables.questions import questions
from dev.nano_tables.report import Section, current_commit, read_scores, write
from dev.nano_tables.scenes import calibration, classes, label_sets, out_of_distribution
from dev.nano_tables.subject import Subject
from dev.nano_tables.windows import presence, shares

SECTIONS: dict[str, Callable[[Subject], Section]] = {
    "classes": classes,
    "presence": presence,
    "shares": shares,
    "objects": objects,
    "label_sets": label_sets,
    "out_of_distribution": out_of_distribution,
    "calibration": calibration,
    "questions": questions,
}


def main() -> None:
    import lhrs

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="what lhrs.load opens: a folder, or lhrs-nano")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the data sets")
    parser.add_argument("--prepared", type=Path, required=True, help="folder that recipes/lhrs-nano/prepare.py wrote")
    parser.add_argument("--ood", type=Path, required=True, help="folder that dev/ood_sets.py wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder for the tables")
    parser.add_argument("--beside", type=Path, help="folder with tables of another model, whose scores are shown too")
    parser.add_argument("--limit", type=int, help="images per set; default: all")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS), metavar="NAME",
                        help=f"sections: {', '.join(SECTIONS)}")  # fmt: skip
    options = parser.parse_args()
    command, commit = f"python -m dev.nano_tables {shlex.join(sys.argv[1:])}", current_commit()
    subject = Subject(lhrs.load(options.model), options.data, options.prepared, options.ood, options.limit)
    for name in options.only:
        start = time.perf_counter()
        section = SECTIONS[name](subject)
        if options.beside is not None:
            scores = read_scores(options.beside / f"{name}.json")
            for row in section.rows:
                if (row.task, row.metric) in scores:
                    row.baselines["the other model"] = scores[row.task, row.metric]
        write(section, name, options.out, subject.assistant.runtime.name, command, commit)
        print(f"{name}: {len(section.rows)} rows, {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
