"""What training needs of the model: gradients everywhere, checkpointing, adapters."""

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model


def lora():
    return LoraConfig(r=2, target_modules=r".*language_model.*\.(q_proj|v_proj)", modules_to_save=["bridge"])


def step(model, inputs):
    labels = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)
    labels = labels.masked_fill(labels == model.config.image_token_id, -100)
    loss = model(**inputs, labels=labels).loss
    loss.backward()
    return loss


@pytest.mark.parametrize("encoder", ["clip", "siglip", "timm_cnn", "timm_vit"])
def test_every_weight_learns(make_model, inputs, encoder):
    """Distributed training stops at weights without gradient."""
    model = make_model(encoder, "nova", num_experts=4).train()
    step(model, inputs)
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("reentrant", [None, False, True])
def test_the_balance_loss_reaches_every_router(make_model, inputs, reentrant):
    model = make_model(num_experts=4).train()
    if reentrant is not None:
        model.gradient_checkpointing_enable({"use_reentrant": reentrant})
        model.enable_input_require_grads()
    model(**inputs).balance_loss.backward()
    for layer in model.model.bridge.layers:
        assert layer.mlp.router.weight.grad.abs().max() > 0


def test_nova_s_noise_learns_too(make_model, inputs):
    model = make_model(style="nova", num_experts=4, expert_style="nova_linear").train()
    step(model, inputs)
    assert model.model.bridge.layers[0].mlp.router.noise.weight.grad.abs().max() > 0


def test_a_few_steps_lower_the_loss(make_model, inputs):
    model = make_model().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        losses.append(float(step(model, inputs).detach()))
        optimizer.step()
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing_gives_the_same_gradients(make_model, inputs, reentrant):
    plain, saving = make_model("siglip", "nova", num_experts=4).train(), make_model("siglip", "nova", num_experts=4)
    saving.gradient_checkpointing_enable({"use_reentrant": reentrant})
    saving.train()
    assert all(layer.gradient_checkpointing for layer in saving.model.bridge.layers)
    if reentrant:  # it needs inputs with gradients, as the Trainer arranges
        saving.enable_input_require_grads()
    assert torch.equal(step(plain, inputs), step(saving, inputs))
    of_saving = dict(saving.named_parameters())
    for name, weight in plain.named_parameters():
        if not (reentrant and "vision_tower" in name):
            torch.testing.assert_close(of_saving[name].grad, weight.grad, msg=name)


@torch.no_grad()
def test_families_train_save_and_load(make_model, inputs, tmp_path):
    model = get_peft_model(make_model(), lora())
    before = model(**inputs).logits
    with torch.enable_grad():
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5)
        for _ in range(2):  # B is zero at first, so A learns from the second step
            optimizer.zero_grad()
            step(model, inputs)
            optimizer.step()
    after = model.eval()(**inputs).logits
    assert not torch.allclose(before, after)
    model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(make_model(), tmp_path).eval()
    torch.testing.assert_close(again(**inputs).logits, after)
    torch.testing.assert_close(again.merge_and_unload()(**inputs).logits, after, atol=1e-4, rtol=1e-4)


def test_an_adapter_leaves_the_frozen_parts_alone(make_model):
    model = get_peft_model(make_model(), lora())
    learning = {name.split(".")[3] for name, p in model.named_parameters() if p.requires_grad}
    assert learning == {"language_model", "bridge"}
