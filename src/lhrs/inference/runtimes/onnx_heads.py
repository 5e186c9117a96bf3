"""Dense heads without torch: onnxruntime and numpy."""

from pathlib import Path

import numpy as np
import onnxruntime

from lhrs.errors import CheckpointError

FILE_NAME = "perception.onnx"


class OnnxHeads:
    """Encoder and dense heads of a folder written by `lhrs.models.export_onnx`; see `lhrs.inference.perception.Heads`.

    Args:
        folder: the exported model.
        options: of the session.

    Raises:
        CheckpointError: the file is missing.
    """

    def __init__(self, folder: Path, options: onnxruntime.SessionOptions) -> None:
        path = folder / FILE_NAME
        if not path.exists():
            raise CheckpointError(f"{folder} has no {FILE_NAME}: it is not an exported lhrs model.")
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._names = [output.name for output in self._session.get_outputs()]

    def perceive(self, pixel_values: np.ndarray, gsd_m: np.ndarray) -> dict[str, np.ndarray]:
        """See `lhrs.inference.perception.Heads`."""
        found = self._session.run(self._names, {"pixel_values": pixel_values, "gsd_m": gsd_m})
        return dict(zip(self._names, found, strict=True))
