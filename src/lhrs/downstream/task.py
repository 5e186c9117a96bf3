"""Interface of downstream tasks: run file keys, network, training data, predictions, scores and output files.

A new task is a new file in `lhrs.downstream.tasks`. Torch is imported lazily, here and in these files.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, PositiveInt

from lhrs import registry
from lhrs.config import Config
from lhrs.errors import ConfigError

if TYPE_CHECKING:
    from lhrs.downstream.backbone import Backbone
    from lhrs.downstream.inputs import ImageInput
    from lhrs.downstream.labeled_dataset import LabeledDataset
    from lhrs.downstream.network import TaskNetwork
    from lhrs.downstream.predict import Predictor
    from lhrs.imagery.band_stack import BandStack

TASKS = "lhrs.downstream.tasks"
Fraction = Annotated[float, Field(ge=0, le=1)]


class TaskConfig(Config):
    """Keys of a run file that every task has; a task adds its own."""

    image_size: PositiveInt
    """Side in pixels of the network's input."""
    train_backbone: Literal["full", "layerwise", "none", "linear_probe"] = "full"
    """`full`: all layers; `layerwise`: lower learning rates for lower layers; `none`: a frozen backbone;
    `linear_probe`: a frozen backbone with a linear head."""

    def check_micro_batch(self, images: int) -> None:
        """Raise ConfigError if the task cannot be trained with so few images per forward pass."""


class InferenceConfig(Config):
    """Keys of a model folder's `inference`: how whole images are predicted."""


@dataclass(frozen=True)
class HeadConfig:
    """The head of a network."""

    name: str
    args: dict[str, Any] = field(default_factory=dict)
    """Arguments that determine its layers; stored in the model folder."""
    training_args: dict[str, Any] = field(default_factory=dict)
    """Arguments of the loss and of dropout; not stored."""


@dataclass(frozen=True)
class PredictOptions:
    """Options of `lhrs predict` that only some tasks have."""

    window_size: int | None = None
    """Side in pixels of the windows that are predicted instead of whole images."""
    min_score: float | None = None
    """Lowest score of a detected object."""

    def set_names(self) -> list[str]:
        """Return the names of the options that are set."""
        return [name for name, value in vars(self).items() if value is not None]


class Task(ABC):
    """One downstream task."""

    config: ClassVar[type[TaskConfig]]
    inference_config: ClassVar[type[InferenceConfig]] = InferenceConfig
    monitor: ClassVar[str]
    """The score by which a model is selected on the validation split."""
    num_dates: ClassVar[int] = 1
    """Images per sample."""
    min_classes: ClassVar[int] = 2
    needs_equal_classes: ClassVar[bool] = False
    """Whether all splits must have the same classes in the same order."""
    predict_options: ClassVar[tuple[str, ...]] = ()
    """Fields of `PredictOptions` that the task takes."""

    @property
    def name(self) -> str:
        """The name of its file, such as `segment`."""
        return type(self).__module__.rpartition(".")[2]

    @abstractmethod
    def build_network(self, encoder: "Backbone", num_classes: int, head: str | None, **args: Any) -> "TaskNetwork":
        """Return a network on a backbone.

        Raises:
            ConfigError: there is no such head.
        """

    @abstractmethod
    def head(self, config: Any) -> HeadConfig:
        """Return the head that a run file specifies."""

    def inference(self, config: Any) -> dict[str, Any]:
        """Return the keys of `inference_config` that a run file determines."""
        return {name: getattr(config, name) for name in self.inference_config.model_fields}

    def classes(self, config: Any, train: "LabeledDataset") -> list[str]:
        """Return the names of the classes in the order of their indices.

        Raises:
            ConfigError: the run file contradicts the data.
            DataError: the data has classes that the run file does not list.
        """
        return train.classes

    def prepare_backbone(self, config: Any, encoder: "Backbone") -> None:
        """Freeze parts of the backbone according to the task's own keys."""
        return None

    def freezes_bn(self, config: Any, is_pretrained: bool) -> bool:
        """Return whether batch norms of the backbone keep their statistics by default."""
        return False

    @abstractmethod
    def training_data(self, config: Any, train: "LabeledDataset", image_input: "ImageInput") -> tuple[Any, Callable]:
        """Return the training dataset, indexed by `(epoch, index)`, and its collate function."""

    def initialize_head(self, config: Any, predictor: "Predictor", train: "LabeledDataset") -> None:
        """Initialize the head before training."""
        return None

    @abstractmethod
    def predict(self, predictor: "Predictor", inputs: "tuple[BandStack, ...]") -> Any:
        """Return the prediction for one image, or for two dates."""

    @abstractmethod
    def evaluate(self, predictor: "Predictor", labeled: "LabeledDataset") -> dict[str, Any]:
        """Return scores on a split by name; `monitor` is among them."""

    @abstractmethod
    def check_output(self, out: Path, options: PredictOptions) -> None:
        """Raise ConfigError if predictions cannot be written to `out`."""

    @abstractmethod
    def write(
        self, load: "Callable[[], Predictor]", images: Sequence[Path], out: Path, options: PredictOptions,
        progress: Any, report: Callable[[str], None],
    ) -> list[Path]:  # fmt: skip
        """Write predictions of images and return the files.

        Args:
            load: returns the model; called after the arguments are checked.
            images: files and folders.
            out: a file or a folder, see `check_output`.
            options: of the command.
            progress: see `lhrs.progress`.
            report: receives notes for the user.

        Raises:
            ConfigError: images do not fit `out`.
            DataError: an image cannot be read.
        """


def list_tasks() -> list[str]:
    """Return the names of all tasks."""
    return registry.list_components(TASKS)


def get_task(name: str) -> Task:
    """Return a task by its name.

    Raises:
        ConfigError: there is none.
    """
    return registry.get_component(TASKS, name, Task)()  # type: ignore[type-abstract]


def choose_head(task: str, heads: Sequence[str], head: str | None) -> str:
    """Return a head's name, the first by default.

    Raises:
        ConfigError: there is no such head.
    """
    head = head or heads[0]
    if head not in heads:
        raise ConfigError(f"{task} has no head {head!r}; it has {', '.join(heads)}.")
    return head
