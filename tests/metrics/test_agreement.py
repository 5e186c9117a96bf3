"""The same numbers as independent implementations, on random and on odd cases."""

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from lhrs.boxes import iou_pairs, polygon_iou_pairs
from lhrs.metrics import calibration, statistics
from lhrs.metrics.captioning import bleu, cider, rouge_l, tokenize
from lhrs.metrics.detection import average_precision
from lhrs.metrics.iou import mask_iou, oriented_corners

RNG = np.random.default_rng(0)


def random_boxes(count, rng=RNG, size=100):
    corner = rng.uniform(0, size, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(0, size / 2, (count, 2))], 1)


def test_boxes_agree_with_torchvision_and_shapely():
    torch, ops = pytest.importorskip("torch"), pytest.importorskip("torchvision.ops")
    a, b = random_boxes(2000), random_boxes(2000)
    a[:50] = b[:50]
    a[50:60, 2] = a[50:60, 0]  # without area
    mine = iou_pairs(a, b)
    theirs = ops.box_iou(torch.tensor(a), torch.tensor(b)).diagonal().numpy()
    np.testing.assert_allclose(mine, theirs, atol=1e-9)
    shapes = shapely.box(*a.T), shapely.box(*b.T)
    area = shapely.area(shapely.intersection(*shapes))
    np.testing.assert_allclose(mine, area / (shapely.area(shapes[0]) + shapely.area(shapes[1]) - area), atol=1e-9)


def test_oriented_boxes_agree_with_shapely_and_torchvision():
    rng = np.random.default_rng(1)
    a = np.concatenate([rng.uniform(0, 50, (500, 2)), rng.uniform(1, 40, (500, 2)), rng.uniform(-4, 4, (500, 1))], 1)
    b = a + rng.normal(0, 3, a.shape) * [1, 1, 0.5, 0.5, 0.2]
    b[:, 2:4] = np.abs(b[:, 2:4]) + 0.1
    mine = polygon_iou_pairs(*map(oriented_corners, (a, b)))
    from shapely.affinity import rotate, translate

    for n in range(0, 500, 7):
        one, two = (
            translate(rotate(shapely.box(-w / 2, -h / 2, w / 2, h / 2), t, origin=(0, 0), use_radians=True), x, y)
            for x, y, w, h, t in (a[n], b[n])
        )
        assert mine[n] == pytest.approx(one.intersection(two).area / one.union(two).area, abs=1e-6)
    torch, ops = pytest.importorskip("torch"), pytest.importorskip("torchvision.ops")
    degrees = [torch.tensor(v * [1, 1, 1, 1, -180 / np.pi], dtype=torch.float64) for v in (a, b)]
    np.testing.assert_allclose(mine, ops.box_iou(*degrees, fmt="cxcywhr").diagonal().numpy(), atol=1e-4)
    straight = np.concatenate([a[:, :4], np.zeros((500, 1))], 1)
    xyxy = np.concatenate([straight[:, :2] - straight[:, 2:4] / 2, straight[:, :2] + straight[:, 2:4] / 2], 1)
    overlap = polygon_iou_pairs(*map(oriented_corners, (straight, straight[::-1])))
    np.testing.assert_allclose(overlap, iou_pairs(xyxy, xyxy[::-1]), atol=1e-9)
    assert oriented_corners(np.array([[0, 0, 2, 2, np.pi / 4]]))[0, 1] == pytest.approx([2**0.5, 0])


def test_masks_agree_with_pycocotools():
    mask = pytest.importorskip("pycocotools.mask")
    for _ in range(50):
        a, b = (RNG.random((2, 37, 53)) < 0.5).astype(np.uint8)
        coded = [mask.encode(np.asfortranarray(m)) for m in (a, b)]
        assert mask_iou(a, b) == pytest.approx(mask.iou([coded[0]], [coded[1]], [0])[0, 0], abs=1e-9)
    assert mask_iou(np.zeros((3, 3)), np.zeros((3, 3))) == 0


@pytest.mark.parametrize("threshold", [0.5, 0.75])
def test_average_precision_agrees_with_pycocotools(threshold, capsys):
    coco, evaluation = pytest.importorskip("pycocotools.coco"), pytest.importorskip("pycocotools.cocoeval")
    rng = np.random.default_rng(5)
    truth = [random_boxes(int(n), rng) for n in rng.integers(0, 8, 30)]
    found = []
    for boxes in truth:
        near = boxes + rng.normal(0, 4, boxes.shape)
        guesses = np.concatenate([near, random_boxes(3, rng)])
        guesses[:, 2:] = np.maximum(guesses[:, 2:], guesses[:, :2] + 1)
        found.append((guesses, rng.random(len(guesses))))
    xywh = lambda b: [*b[:2], b[2] - b[0], b[3] - b[1]]  # noqa: E731
    data = coco.COCO()
    annotations = [
        {"id": n, "image_id": i, "category_id": 1, "bbox": xywh(b), "area": (b[2] - b[0]) * (b[3] - b[1]), "iscrowd": 0}
        for n, (i, b) in enumerate(((i, b) for i, boxes in enumerate(truth) for b in boxes.tolist()), 1)
    ]
    data.dataset = {"images": [{"id": i} for i in range(30)], "annotations": annotations, "categories": [{"id": 1}]}
    data.createIndex()
    results = data.loadRes([
        {"image_id": i, "category_id": 1, "bbox": xywh(b), "score": s}
        for i, (boxes, scores) in enumerate(found) for b, s in zip(boxes.tolist(), scores.tolist(), strict=True)
    ])  # fmt: skip
    judge = evaluation.COCOeval(data, results, "bbox")
    judge.params.iouThrs, judge.params.maxDets = np.array([threshold]), [1, 10, 100]
    judge.params.areaRng, judge.params.areaRngLbl = [[0, 1e10]], ["all"]
    judge.evaluate()
    judge.accumulate()
    theirs = judge.eval["precision"][0, :, 0, 0, 2].mean()
    assert average_precision(found, truth, threshold) == pytest.approx(theirs, abs=1e-6)


def test_average_precision_by_hand():
    truth = [np.array([[0, 0, 10, 10], [20, 20, 30, 30.0]])]
    found = [(np.array([[0, 0, 10, 10], [50, 50, 60, 60], [20, 20, 30, 30.0]]), np.array([0.9, 0.8, 0.7]))]
    assert average_precision(found, truth, points=0) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert average_precision(found, truth, points=11) == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)


def texts(rng, count):
    words = ["a", "the", "river", "road", "with", "many", "green", "trees", "beside", "large", "lot", "and", "near"]
    one = lambda: " ".join(rng.choice(words, rng.integers(0, 14)))  # noqa: E731
    return [one() for _ in range(count)], [[one() or "a" for _ in range(rng.integers(1, 6))] for _ in range(count)]


@pytest.mark.parametrize("seed", range(5))
def test_caption_scores_agree_with_the_reference_code(seed):
    pytest.importorskip("pycocoevalcap")
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    said, known = texts(np.random.default_rng(seed), 40)
    refs, res = {n: k for n, k in enumerate(known)}, {n: [s] for n, s in enumerate(said)}
    mine = [s.split() for s in said], [[k.split() for k in group] for group in known]
    np.testing.assert_allclose(bleu(*mine), Bleu(4).compute_score(refs, res, verbose=0)[0], atol=1e-6)
    np.testing.assert_allclose(cider(*mine), Cider().compute_score(refs, res)[1], atol=1e-6)
    spoken = [n for n, s in enumerate(said) if s]
    theirs = Rouge().compute_score({n: refs[n] for n in spoken}, {n: res[n] for n in spoken})[1]
    np.testing.assert_allclose(rouge_l(*mine)[spoken], theirs, atol=1e-6)


def test_tokens():
    assert tokenize("A man's 12,000 trees, aren't near-by (the U.S.)!") == [
        "a", "man", "'s", "12,000", "trees", "are", "n't", "near-by", "the", "u", "s"]  # fmt: skip
    assert tokenize("") == tokenize("...") == []


def test_risk_and_calibration_by_hand():
    right = np.array([1, 1, 0, 1, 0], bool)
    sure = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    coverage, risk = calibration.risk_coverage(sure, right)
    np.testing.assert_allclose(coverage, [0.2, 0.4, 0.6, 0.8, 1])
    np.testing.assert_allclose(risk, [0, 0, 1 / 3, 1 / 4, 2 / 5])
    assert calibration.aurc(sure, right) == pytest.approx(risk.mean())
    assert calibration.aurc(np.ones(5), right) == pytest.approx(0.4)  # a constant knows nothing, in any order
    assert calibration.aurc(np.ones(5), right[::-1]) == pytest.approx(0.4)
    assert calibration.ece(np.array([0.75, 0.75, 0.75, 0.75]), np.array([1, 1, 1, 0])) == pytest.approx(0)
    assert calibration.ece(np.ones(4), np.zeros(4)) == pytest.approx(1)


def test_calibration_agrees_with_torchmetrics():
    torch, metrics = pytest.importorskip("torch"), pytest.importorskip("torchmetrics.functional.classification")
    sure = RNG.uniform(0.001, 1, 500)
    right = RNG.random(500) < sure
    theirs = metrics.binary_calibration_error(torch.tensor(sure), torch.tensor(right.astype(int)), n_bins=15, norm="l1")
    assert calibration.ece(sure, right) == pytest.approx(float(theirs), abs=1e-3)


def test_abstention():
    found = calibration.abstention([1, 0, 1, 0, 0], [0, 0, 1, 1, 1], [0, 0, 0, 1, 0])
    assert found == {"accuracy": 0.4, "abstains": 0.5, "refuses": pytest.approx(1 / 3), "accuracy_when_answering": 0.5}


def test_paired_tests():
    rng = np.random.default_rng(0)
    a = rng.random(400) < 0.7
    mean, (low, high), p = statistics.paired_difference(a, a)
    assert (mean, p) == (0, 1)
    b = a & (rng.random(400) < 0.9)
    mean, (low, high), p = statistics.paired_difference(a, b)
    assert low <= mean <= high and low > 0 and p < 0.001
    null = [statistics.paired_difference(rng.random(100) < 0.5, rng.random(100) < 0.5, n, 500)[2] for n in range(200)]
    assert 0.01 < np.mean(np.array(null) < 0.05) < 0.1
    assert statistics.paired_difference(a, b) == statistics.paired_difference(a, b)


@given(st.lists(st.tuples(*[st.floats(-1e3, 1e3)] * 8), min_size=1, max_size=20))
def test_overlap_is_symmetric_and_between_0_and_1(rows):
    a, b = np.array(rows)[:, :4], np.array(rows)[:, 4:]
    one = iou_pairs(a, b)
    np.testing.assert_allclose(one, iou_pairs(b, a))
    assert ((one >= 0) & (one <= 1 + 1e-12)).all()
