"""Many questions in one row are learnt as if each had a row of its own."""

import pytest

torch = pytest.importorskip("torch")

from lhrs.nano.model import build_nano, train_tokenizer  # noqa: E402
from lhrs.nano.package import QuestionLoss  # noqa: E402
from lhrs.nano.rows import collate_rows, pack  # noqa: E402

SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
QUESTIONS = [
    ("is there a river?", "yes"),
    ("how many?", "12"),
    ("describe it.", "a long answer about many roads and trees"),
]


@pytest.fixture(scope="module")
def system():
    torch.manual_seed(0)
    tokenizer = train_tokenizer(["is there a river? yes no describe it a road and trees how many 12"] * 4, 400)
    model, processor = build_nano(tokenizer, **SIZES)
    return QuestionLoss(model, train_vision=False), tokenizer, processor.num_image_tokens


def rows(system, groups):
    """One row for every group of questions, all about the same image."""
    _, tokenizer, num_image_tokens = system
    to_id = tokenizer.convert_tokens_to_ids
    prefix = [to_id("<bos>"), to_id("<user>"), *[to_id("<image>")] * num_image_tokens]
    pixels = torch.randint(0, 256, (3, 128, 128), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    packed = []
    for group in groups:
        encode = lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]  # noqa: E731
        segments = [([*encode(q), to_id("<answer>")], [*encode(a), to_id("<eos>")]) for q, a in group]
        packed.append({"pixels": pixels, **pack(prefix, segments)})
    return collate_rows(packed, pad_id=tokenizer.pad_token_id)


def learn(system, batch):
    """Return loss, loss of every answer token, and gradients."""
    loss = system[0]
    loss.zero_grad()
    out = loss(**batch)
    out["loss"].backward()
    grads = {n: p.grad.clone() for n, p in loss.named_parameters() if p.grad is not None}
    return out["loss"].item(), out["per_token"], grads


def test_a_packed_row_teaches_what_one_question_a_row_teaches(system):
    together = learn(system, rows(system, [QUESTIONS]))
    apart = learn(system, rows(system, [[question] for question in QUESTIONS]))
    assert together[0] == pytest.approx(apart[0], abs=1e-5)
    torch.testing.assert_close(together[1], apart[1], rtol=1e-4, atol=1e-4)
    assert together[2].keys() == apart[2].keys()
    for name, grad in together[2].items():
        torch.testing.assert_close(grad, apart[2][name], rtol=1e-3, atol=1e-5, msg=name)


def test_the_order_of_questions_in_a_row_does_not_matter(system):
    assert learn(system, rows(system, [QUESTIONS]))[0] == pytest.approx(
        learn(system, rows(system, [QUESTIONS[::-1]]))[0], abs=1e-5
    )


def test_an_answer_depends_on_its_own_question_alone(system):
    changed = [("what is that?", "yes"), *QUESTIONS[1:]]
    first, second = (learn(system, rows(system, [group]))[1] for group in (QUESTIONS, changed))
    own = 2  # "yes" and its end
    assert not torch.allclose(first[:own], second[:own], atol=1e-5)
    torch.testing.assert_close(first[own:], second[own:], rtol=1e-4, atol=1e-4)


def test_only_answers_and_their_ends_carry_weight(system):
    batch = rows(system, [QUESTIONS])
    _, tokenizer, _ = system
    learnt = batch["labels"][0][batch["weights"][0] > 0].tolist()
    text = tokenizer.decode(learnt, skip_special_tokens=False)
    assert text.split("<eos>") == [*(answer for _, answer in QUESTIONS), ""]
