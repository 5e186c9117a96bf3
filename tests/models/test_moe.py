"""Experts: routing, balance, usage, and growing out of a dense bridge."""

import pytest
import torch

from lhrs.errors import ConfigError
from lhrs.models import LHRSBridgeConfig
from lhrs.models.moe import Experts, MixtureOfExperts, NoisyRouter


def make(**changes) -> MixtureOfExperts:
    torch.manual_seed(0)
    settings = {"queries": [4], "hidden_size": 8, "num_heads": 2, "num_experts": 4, "top_k": 2, **changes}
    mixture = MixtureOfExperts(LHRSBridgeConfig(**settings), 16)
    for weight in mixture.parameters():
        torch.nn.init.normal_(weight)
    return mixture.eval()


def collapse(mixture: MixtureOfExperts) -> None:
    """Send positive inputs to the first expert."""
    with torch.no_grad():
        mixture.router.weight.zero_()
        mixture.router.weight[0] = 50


@torch.no_grad()
def test_each_token_gets_the_weighted_sum_of_its_experts():
    mixture = make()
    x = torch.randn(3, 5, 8)
    out, _ = mixture(x)
    for token, got in zip(x.view(-1, 8), out.view(-1, 8), strict=True):
        top, chosen = mixture.router(token).topk(2)
        parts = [w * mixture.experts(int(e), token[None])[0] for w, e in zip(top.softmax(0), chosen, strict=True)]
        torch.testing.assert_close(got, sum(parts))


@torch.no_grad()
def test_experts_have_an_activation_unless_imported_from_nova():
    x, y = torch.randn(2, 1, 8)
    for activation in (True, False):
        experts = Experts(1, 8, 16, activation)
        for weight in experts.parameters():
            torch.nn.init.normal_(weight)
        straight = experts(0, x) + experts(0, y) - experts(0, torch.zeros(1, 8))
        assert torch.allclose(straight, experts(0, x + y), atol=1e-4) is not activation


def test_nova_s_router_is_noisy_in_training_only():
    gate, x = NoisyRouter(8, 4), torch.randn(6, 8)
    assert not torch.equal(gate(x), gate(x))
    gate.eval()
    assert torch.equal(gate(x), gate(x))


@torch.no_grad()
def test_the_balance_loss_is_one_when_even_and_the_number_of_experts_when_collapsed():
    mixture, x = make(top_k=1), torch.rand(2, 50, 8) + 0.1
    mixture.router.weight.zero_()
    assert mixture(x)[1].balance_loss == pytest.approx(1)
    collapse(mixture)
    report = mixture(x)[1]
    assert report.balance_loss == pytest.approx(4, rel=1e-3)
    assert report.usage.tolist() == [1, 0, 0, 0]


def test_the_balance_loss_spreads_tokens():
    mixture = make(top_k=1)
    x = torch.randn(1, 200, 8) + 1  # the offset is what experts can collapse on
    with torch.no_grad():
        mixture.router.weight.normal_(std=0.05)
        mixture.router.weight[0] += 0.3
    optimizer = torch.optim.SGD(mixture.router.parameters(), lr=0.005)
    before = mixture(x)[1]
    for _ in range(400):
        optimizer.zero_grad()
        mixture(x)[1].balance_loss.backward()
        optimizer.step()
    after = mixture(x)[1]
    assert before.usage.max() > 0.8
    assert after.usage.max() < 0.6
    assert after.usage.sum() == pytest.approx(1)


def loss_and_parts(model, inputs, **kwargs):
    labels = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)
    return model(**inputs, labels=labels, **kwargs), int((labels[:, 1:] != -100).sum())


@torch.no_grad()
def test_the_model_s_loss_holds_the_weighted_balance_loss_and_reports_usage(make_model, inputs):
    with_balance, _ = loss_and_parts(make_model(num_experts=4, balance_weight=0.5), inputs)
    without, _ = loss_and_parts(make_model(num_experts=4, balance_weight=0.0), inputs)
    assert float(with_balance.loss - without.loss) == pytest.approx(0.5 * float(with_balance.balance_loss), rel=1e-4)
    assert with_balance.expert_usage.shape == (4,)
    assert float(with_balance.expert_usage.sum()) == pytest.approx(1)


@torch.no_grad()
def test_accumulation_does_not_multiply_the_balance_loss(make_model, inputs):
    """A batch that holds half of a step's tokens carries half of the balance loss."""
    model = make_model(num_experts=4, balance_weight=0.5)
    whole, num_items = loss_and_parts(model, inputs)
    half, _ = loss_and_parts(model, inputs, num_items_in_batch=2 * num_items)
    torch.testing.assert_close(half.loss, whole.loss / 2)


@pytest.mark.parametrize("style", ["v1", "nova"])
@torch.no_grad()
def test_upcycling_keeps_what_the_model_computes(make_model, inputs, style):
    model = make_model(style=style)
    dense = model.get_image_features(inputs["pixel_values"]).pooler_output
    logits = model(**inputs).logits
    model.upcycle_bridge(num_experts=4, top_k=2)
    mixed = model.get_image_features(inputs["pixel_values"])
    assert mixed.bridge.router.usage.gt(0).sum() > 1  # the routers do choose
    assert (mixed.pooler_output - dense).abs().max() <= 1e-5
    assert (model(**inputs).logits - logits).abs().max() <= 1e-4


@torch.no_grad()
def test_upcycled_experts_are_separate_and_saved(make_model, inputs, tmp_path):
    model = make_model()
    model.upcycle_bridge(num_experts=3, top_k=2)
    experts = model.model.bridge.layers[0].mlp.experts
    other = experts.up_weight[1].clone()
    experts.up_weight[0] += 1
    assert torch.equal(experts.up_weight[1], other)
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path)
    assert again.config.bridge_config.num_experts == 3
    assert torch.equal(again(**inputs).logits, model(**inputs).logits)


def test_linear_experts_cannot_take_over_a_dense_bridge(make_model):
    with pytest.raises(ConfigError, match="linear experts"):
        make_model(expert_style="nova_linear").upcycle_bridge()


def test_a_bridge_is_upcycled_once(make_model):
    with pytest.raises(ConfigError, match="has 4 experts already"):
        make_model(num_experts=4).upcycle_bridge()
