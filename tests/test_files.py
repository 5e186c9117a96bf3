"""Files that others can read and that are there whole or not at all."""

import os

import pytest

from lhrs.atomic_io import save_safetensors


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_tensors_are_as_open_as_other_files(tmp_path, umask):
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file

    before = os.umask(umask)
    try:
        (tmp_path / "other").touch()
        save_safetensors(tmp_path / "new/weights.safetensors", {"a": torch.arange(6.0).view(2, 3).T})
    finally:
        os.umask(before)
    file = tmp_path / "new/weights.safetensors"
    assert file.stat().st_mode == (tmp_path / "other").stat().st_mode
    assert load_file(file)["a"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert [p.name for p in file.parent.iterdir()] == [file.name]


def test_tensors_that_cannot_be_written_leave_nothing(tmp_path):
    torch = pytest.importorskip("torch")
    shared = torch.zeros(4)
    with pytest.raises(RuntimeError, match="share memory"):
        save_safetensors(tmp_path / "weights.safetensors", {"a": shared, "b": shared})
    assert not list(tmp_path.iterdir())
