"""Answers that try to be right without knowing: none may beat what it honestly deserves; what old scorers give."""

import numpy as np
import pytest

from lhrs.metrics.accuracy import majority_baseline
from lhrs.metrics.captioning import score_captions
from lhrs.metrics.choice import rotations, score_choices, score_circular
from lhrs.metrics.classification import score_classification
from lhrs.metrics.count import score_counts
from lhrs.metrics.detection import average_precision
from lhrs.metrics.grounding import score_grounding
from lhrs.metrics.honesty import score_honesty
from lhrs.metrics.legacy import LEGACY
from lhrs.metrics.metric import load_metrics
from lhrs.metrics.scoring import score_records
from lhrs.metrics.vqa import score_vqa

RNG = np.random.default_rng(0)
CLASSES = ["airport", "beach", "forest", "harbor", "parking lot", "river", "stadium", "storage tanks"]
TRUTH = [CLASSES[i] for i in RNG.integers(0, len(CLASSES), 400)]
LETTER_TRUTH = RNG.integers(0, 4, 400).tolist()
OPTIONS = [[CLASSES[(i + k) % 8] for k in range(4)] for i in range(400)]
YES_NO = [("yes", "no")[i] for i in RNG.integers(0, 2, 400)]
NUMBERS = [str(i) for i in RNG.integers(0, 30, 400)]
REFUSAL = "I'm sorry, I can't answer that."

NOTHING = {
    "empty": "", "space": "  ", "dot": ".", "refusal": REFUSAL, "letter e": "e", "newline": "\n",
    "unicode": "\uff41\u0301🏠",
    "null byte": "\0", "html": "<b></b>", "quote": '"', "very long": "x" * 10_000,
}  # fmt: skip


@pytest.mark.parametrize("text", NOTHING.values(), ids=NOTHING)
def test_saying_nothing_is_worth_nothing(text):
    said = [text] * 400
    for score in (
        score_classification(said, TRUTH), score_vqa(said, YES_NO), score_vqa(said, NUMBERS), score_vqa(said, TRUTH),
        score_counts(said, NUMBERS), score_choices(said, LETTER_TRUTH, OPTIONS),
    ):  # fmt: skip
        assert score.accuracy == 0
    assert score_classification(said, TRUTH).parse_failure_rate == 1
    assert score_choices(said, LETTER_TRUTH, OPTIONS).parse_failure_rate == 1
    assert score_vqa(said, YES_NO).parse_failure_rate == score_counts(said, NUMBERS).parse_failure_rate == 1


def test_saying_everything_is_worth_nothing():
    everything = [", ".join(CLASSES), " ".join(CLASSES), "It could be " + " or ".join(CLASSES), "/".join(CLASSES)]
    for text in everything:
        assert score_classification([text] * 400, TRUTH).accuracy == 0
        assert score_vqa([text] * 400, TRUTH).accuracy == 0
    for text in ("yes and no", "yes/no", "yes no", "no, yes", "Yes. No."):
        assert score_vqa([text] * 400, YES_NO).accuracy == 0
    for text in (" ".join(map(str, range(30))), "0-30", "between 1 and 30"):
        assert score_counts([text] * 400, NUMBERS).accuracy == score_vqa([text] * 400, NUMBERS).accuracy == 0
    for text in ("ABCD", "A B C D", "A, B, C, D", "A or B or C or D", "A. B. C. D."):
        assert score_choices([text] * 400, LETTER_TRUTH, OPTIONS).accuracy == 0


def test_a_constant_is_worth_its_frequency():
    for text in CLASSES:
        assert score_classification([text] * 400, TRUTH).accuracy == TRUTH.count(text) / 400
        assert score_classification([text] * 400, TRUTH).extra["balanced_accuracy"] == pytest.approx(1 / 8)
    assert score_vqa(["yes"] * 400, YES_NO).accuracy == YES_NO.count("yes") / 400
    for n, letter in enumerate("ABCD"):
        assert score_choices([letter] * 400, LETTER_TRUTH, OPTIONS).accuracy == LETTER_TRUTH.count(n) / 400
    assert majority_baseline(TRUTH) == max(map(TRUTH.count, CLASSES)) / 400


def test_a_constant_letter_never_survives_rotation():
    asked, truth, groups, said = [], [], [], []
    for n, (options, answer) in enumerate(zip(OPTIONS, LETTER_TRUTH, strict=True)):
        for turned, at in rotations(options, answer):
            asked.append(turned)
            truth.append(at)
            groups.append(n)
            said.append("A")
            assert turned[at] == options[answer]
    plain = score_choices(said, truth, asked)
    circular = score_circular(groups, plain.correct)
    assert plain.accuracy == pytest.approx(0.25) and circular.accuracy == 0 and len(circular.correct) == 400
    right = score_choices(["ABCD"[a] for a in truth], truth, asked)
    assert score_circular(groups, right.correct).accuracy == 1


def test_right_answers_are_right_in_the_forms_that_are_declared():
    for form in ("{}", "{}.", " {}\n", '"{}"', "The {}"):
        assert score_classification([form.format(t) for t in TRUTH], TRUTH).accuracy == 1, form
    for form in ("{}", "({})", "{}.", "Answer: {}", "The answer is {}."):
        said = [form.format("ABCD"[a]) for a in LETTER_TRUTH]
        assert score_choices(said, LETTER_TRUTH, OPTIONS).accuracy == 1, form
    assert score_classification([t.upper() for t in TRUTH], TRUTH).accuracy == 1
    assert score_vqa([a.upper() for a in YES_NO], YES_NO).accuracy == 1
    assert score_vqa([f"There are {n}." for n in NUMBERS], NUMBERS).accuracy == 1
    assert score_classification([t.replace(" ", "_") for t in TRUTH], TRUTH).accuracy == 1


def test_verbose_right_answers_gain_nothing_over_terse_ones():
    verbose = [f"This image clearly shows a {t}, one can see it well." for t in TRUTH]
    score = score_classification(verbose, TRUTH)
    assert score.accuracy == 0 and score.parse_failure_rate == 1
    wrong = [f"Answer: {'ABCD'[(a + 1) % 4]}, not {'ABCD'[a]}" for a in LETTER_TRUTH]
    assert score_choices(wrong, LETTER_TRUTH, OPTIONS).accuracy == 0


def boxes(count, rng, low=20, high=120, size=800):
    corner = rng.uniform(0, size - high, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(low, high, (count, 2))], 1)


def test_boxes_that_know_nothing():
    rng = np.random.default_rng(1)
    truth = boxes(2000, rng)
    nobody = score_grounding([None] * 2000, truth)
    assert nobody.accuracy() == 0 and nobody.to_dict()["parse_failure_rate"] == 1 and nobody.to_dict()["mean_iou"] == 0
    whole = score_grounding([np.array([[0, 0, 800, 800]])] * 2000, truth)
    assert whole.accuracy() == 0 and whole.to_dict()["mean_iou"] < 0.03
    assert score_grounding(list(boxes(2000, rng)[:, None]), truth).accuracy() < 0.01
    assert score_grounding(list(truth[:, None, [1, 0, 3, 2]]), truth).accuracy() < 0.1  # axes swapped
    for scale in (1 / 800, 100 / 800, 1000 / 800):  # coordinates of another scale
        assert score_grounding(list(truth[:, None] * scale), truth).accuracy() < 0.25
    grid = np.array([[x, y, x + 80, y + 80] for x in range(0, 800, 40) for y in range(0, 800, 40)], float)
    assert score_grounding([grid] * 2000, truth).accuracy() < 0.02  # many guesses: the first counts
    backwards = truth[:, [2, 3, 0, 1]]
    assert score_grounding(list(backwards[:, None]), truth).accuracy() == 0
    for odd in (np.nan, np.inf, -np.inf, 1e300):
        assert score_grounding([np.full((1, 4), odd)] * 2000, truth).accuracy() == 0
    assert score_grounding(list(truth[:, None]), truth).accuracy(0.999) == 1


def test_unanswered_expressions_stay_in_the_denominator():
    truth = boxes(10, np.random.default_rng(2))
    half = [truth[n : n + 1] if n < 5 else None for n in range(10)]
    assert score_grounding(half, truth).accuracy() == 0.5


def test_average_precision_is_not_fooled():
    rng = np.random.default_rng(3)
    truth = [boxes(5, rng) for _ in range(20)]
    perfect = [(t, np.ones(5)) for t in truth]
    assert average_precision(perfect, truth) == pytest.approx(1)
    one_easy = [(t[:1], np.ones(1)) for t in truth]
    assert average_precision(one_easy, truth) < 0.22
    copies = [(np.repeat(t, 10, 0), np.ones(50)) for t in truth]
    assert average_precision(copies, truth) < 0.3
    assert average_precision([(np.empty((0, 4)), np.empty(0))] * 20, truth) == 0
    noise = [(boxes(300, rng), rng.random(300)) for _ in truth]
    assert average_precision(noise, truth) < 0.05


def test_captions_that_say_nothing():
    references = [[f"a {c} beside a {CLASSES[(i + 3) % 8]} with some trees"] for i, c in enumerate(CLASSES * 5)]
    honest = score_captions([r[0] for r in references], references)
    assert honest["bleu4"] == pytest.approx(1) and honest["rouge_l"] == pytest.approx(1) and honest["cider"] > 3
    for text in ("", ".", "a a a a a a", "the", "🏠", "x" * 500, "with some trees"):
        score = score_captions([text] * 40, references)
        assert score["cider"] < 0.35 * honest["cider"] and score["bleu4"] < 0.15, text
    constant = score_captions([references[0][0]] * 40, references)
    assert constant["cider"] < 0.5 * honest["cider"]


def test_several_right_options_are_named_all_or_not_at_all():
    subsets = [tuple(k for k in range(4) if bits >> k & 1) for bits in RNG.integers(1, 16, 400).tolist()]
    said = [" ".join("ABCD"[k] for k in subset) for subset in subsets]
    assert score_choices(said, subsets, OPTIONS).accuracy == 1
    assert score_choices([text[::-1] for text in said], subsets, OPTIONS).accuracy == 1
    for text in NOTHING.values():
        assert score_choices([text] * 400, subsets, OPTIONS).accuracy == 0
    for constant in ("A", "ABCD", "A, B", "bad"):  # each subset is right as often as any other
        assert score_choices([constant] * 400, subsets, OPTIONS).accuracy < 0.12
    one_less = [text[2:] for text in said if len(text) > 1]
    kept = [n for n, text in enumerate(said) if len(text) > 1]
    assert score_choices(one_less, [subsets[n] for n in kept], [OPTIONS[n] for n in kept]).accuracy == 0
    records = [{"prediction": "A", "answer": list(s), "options": o} for s, o in zip(subsets, OPTIONS, strict=True)]
    assert score_records(records, "choice")["chance"] == pytest.approx(1 / 15)
    assert rotations("abcd", (0, 3))[1] == (["b", "c", "d", "a"], (2, 3))


def test_neither_denying_everything_nor_nothing_is_honest():
    letters = [["left", "right", "top", "There is no such object"]] * 100 + [["left", "right", "top"]] * 100
    true, false = [True] * 100, [False] * 100
    colours = ["white", "red, blue"] * 50

    def score(texts, answerable, options=((),) * 200, answers=(*colours, *colours)):
        found = score_honesty(texts, answers, options, answerable)
        return found.accuracy, found.extra.get("denies_false", 0), found.extra.get("denies_true", 0)

    known = [*colours, *["There is no car."] * 100]
    assert score(known, true + false) == (1, 1, 0)
    assert score(["blue and red" if "," in c else c for c in colours] + known[100:], true + false)[0] == 1
    assert score(["I cannot tell."] * 200, true + false) == (0.5, 1, 1)
    assert score(["white"] * 200, true + false) == (0.25, 0, 0)
    for text in (*list(NOTHING.values())[:3], "e", "x" * 9999, "yes", "no yes", "There is no car, but it is white"):
        assert score([text] * 200, true + false) == (0, 0, 0), text
    answers = [3] * 100 + [1] * 100  # the option that denies is right for the false ones
    assert score(["D"] * 200, false + true, letters, answers) == (0.5, 1, 0)
    assert score(["B"] * 200, false + true, letters, answers) == (0.5, 0, 0)
    assert score(["No such object is visible."] * 200, false + true, letters, answers) == (0.5, 1, 1)
    assert score(["D. left", "BD"] * 100, false + true, letters, answers) == (0, 0, 0)
    assert set(score_honesty(["x"], ["y"], [()], [False]).extra) == {"denies_false"}  # no share of nothing
    presence = score(["No, there is no ship."] * 200, true + true, answers=["no"] * 200)  # answers, and denies nothing
    assert presence[0] == 1 and presence[2] == 0


def test_every_metric_of_the_command_is_under_attack():
    assert set(load_metrics()) == {
        "vqa", "classify", "count", "choice", "grounding", "detection", "caption", "honesty", "retrieval",
    }  # fmt: skip
    for ranking in (None, [], ["b"] * 20, ["A", "a.png"]):
        record = {"prediction": ranking, "answer": ["a"], "type": "text to image"}
        assert score_records([record], "retrieval")["mean_recall"] == 0
    records = [{"prediction": "", "answer": a, "options": CLASSES} for a in TRUTH]
    assert score_records(records, "choice")["accuracy"] == score_records(records, "classify")["accuracy"] == 0
    boxes_ = [{"prediction": text, "answer": [10, 10, 50, 50], "size": [100, 100]}
              for text in ("", "[]", "[1,2,3]", "[a,b,c,d]", "nowhere", "[0,0,100,100]")]  # fmt: skip
    assert score_records(boxes_, "grounding")["accuracy"] == 0


def test_detections_cannot_be_gamed():
    """Ten images with three ships each; honest finds them, and less surely one that is none."""
    rng = np.random.default_rng(5)
    truth = [boxes(3, rng, 20, 60).tolist() for _ in range(10)]

    def scored(of_image):
        records = [
            {"answer": [{"box": box, "label": "ship"} for box in objects],
             "prediction": [{"box": [float(v) for v in box], "label": name, "score": score}
                            for box, name, score in of_image(objects)]}
            for objects in truth
        ]  # fmt: skip
        return score_records(records, "detection")["map50"]

    honest = scored(lambda o: [*((box, "ship", 0.9) for box in o), ([0, 0, 5, 5], "ship", 0.3)])
    assert honest == pytest.approx(1)
    whole = [0, 0, 800, 800]
    attacks = {
        "nothing": lambda o: [],
        "one easy box, often": lambda o: [(o[0], "ship", 0.9)] * 50,
        "only one easy box": lambda o: [(o[0], "ship", 1.0)],
        "whole image": lambda o: [(whole, "ship", 1.0)],
        "other classes": lambda o: [(box, "boat", 1.0) for box in o],
        "swapped axes": lambda o: [((b[1], b[0], b[3], b[2]), "ship", 1.0) for b in o],
        "another scale": lambda o: [(np.array(b) / 8, "ship", 1.0) for b in o],
        "corners the wrong way": lambda o: [((b[2], b[3], b[0], b[1]), "ship", 1.0) for b in o],
        "random": lambda o: [(b, "ship", 1.0) for b in boxes(100, np.random.default_rng(1), 20, 60)],
        "sure of what is none": lambda o: [(whole, "ship", 0.9), *((b, "ship", 0.1) for b in o)],
    }
    found = {name: scored(attack) for name, attack in attacks.items()}
    assert max(found.values()) < honest, found
    nothing = {name for name, value in found.items() if value == 0}
    assert nothing >= {"nothing", "other classes", "another scale", "whole image", "corners the wrong way"}


def test_what_legacy_scorers_give_away():
    """The table of docs: the same empty or random answers, by published scorers."""
    rng = np.random.default_rng(4)
    unit = boxes(4000, rng, 16, 240) / 800
    other = boxes(4000, rng, 16, 240) / 800
    assert 0.2 < LEGACY["lhrs-bot-grounding"].score(other, unit) < 0.45
    assert LEGACY["lhrs-bot-grounding"].score([[0.1, 0.1, 0.2, 0.2]], [[0.3, 0.3, 0.4, 0.4]]) == 1
    middle = np.tile([0.4, 0.4, 0.6, 0.6], (4000, 1))
    assert LEGACY["lhrs-bot-grounding"].score(middle, unit) > 0.35
    nothing = [""] * 400
    for name in ("lhrs-bot-vqa", "scorers-substring", "rsevalkit-substring", "choice-template"):
        assert LEGACY[name].score(nothing, TRUTH) == 1, name
    assert LEGACY["scorers-substring"].score(["1"] * 3, ["10", "21", "1"]) == 1
    letters = ["ABCD"[a] for a in LETTER_TRUTH]
    assert LEGACY["lhrs-bot-bench"].score(["("] * 400, letters) == letters.count("A") / 400
    assert LEGACY["lhrs-bot-bench"].score(["Answer: B"] * 400, letters) == letters.count("A") / 400
    assert LEGACY["rsthinker-contains"].score([" ".join(CLASSES)] * 400, TRUTH) == 1
    assert LEGACY["rsthinker-contains"].score(["yes and no"] * 400, YES_NO) == 1
    assert LEGACY["earthdial-recall"].score([" ".join(CLASSES)] * 400, TRUTH) == 1
    assert LEGACY["xlrs-regex"].score(["B. parking lot"], ["B"]) == 0
    assert LEGACY["xlrs-regex"].score(["Option B"], ["B"]) == 1
    assert LEGACY["vhm-presence"].score(["No"] * 5, ["no"] * 5) == 0
    near = np.array([[0.1, 0.1, 0.3, 0.3]])
    beside = np.array([[0.3, 0.1, 0.5, 0.3]])
    assert LEGACY["rsthinker-grounding"].score(near * 3, near * 3 + 0.02) == 1
    assert score_grounding([beside * 800], near * 800).accuracy() == 0
