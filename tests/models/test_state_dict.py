import pytest
import torch
from torch import nn

from lhrs.errors import CheckpointError
from lhrs.models.state_dict import load_strict


def test_fills_the_module():
    module, other = nn.Linear(2, 3), nn.Linear(2, 3)
    load_strict(module, other.state_dict(), "a file")
    assert torch.equal(module.weight, other.weight)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("bias"), "a file does not fit: it lacks bias"),
        (lambda state: state.update(odd=torch.zeros(1)), "the model has no odd"),
        (lambda state: state.update(bias=torch.zeros(4)), r"bias has shape \(4,\), the model needs \(3,\)"),
    ],
)
def test_says_what_does_not_fit(change, message):
    module, state = nn.Linear(2, 3), nn.Linear(2, 3).state_dict()
    before = module.weight.clone()
    change(state)
    with pytest.raises(CheckpointError, match=message):
        load_strict(module, state, "a file")
    assert torch.equal(module.weight, before)


def test_named_parts_may_be_missing():
    module = nn.Linear(2, 3)
    load_strict(module, {"weight": torch.zeros(3, 2)}, "a file", may_miss=["bi*"])
    assert not module.weight.any()
