"""Fine-tuning of a trained network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from modelmill.contracts import Judge, Task, Trainer
from modelmill.dataset import Splits
from modelmill.model import Kind, Model
from modelmill.train.recipe import Recipe
from modelmill.trial import Progress


class Finetune(Trainer):
    """Train a trained network further on other rows, upper layers first and faster, all near where they started.

    The last layer is the head: it starts anew where the number of outputs differs, decays as usual, and never freezes.
    A layer is one with weights and the norms after it, in the order in which the network's modules stand.

    L2-SP: Li, Grandvalet & Davoine (2018), https://arxiv.org/abs/1802.01483; gradual unfreezing and layer-wise rates:
    Howard & Ruder (2018), https://arxiv.org/abs/1801.06146
    """

    takes: ClassVar[frozenset[Kind]] = frozenset({"network"})

    head: Literal["keep", "new"] = "keep"
    """Whether the last layer starts anew even where the number of outputs is right."""
    freeze: Annotated[int, Meta(ge=0)] = 1
    """Epochs in which the head learns alone; 0 freezes nothing."""
    thaw: Literal["gradual", "together"] = "gradual"
    """Whether one more layer thaws every `freeze` epochs, from the head down, or all of them after the first."""
    layer_rate: Annotated[float, Meta(gt=0, le=1)] = 0.7
    """A layer's step size as a share of that of the layer above it."""
    pull: Annotated[float, Meta(ge=0)] = 0.1
    """How strongly all weights below the head are drawn to where they started (L2-SP); 0 lets them decay as usual."""
    optimizer: Literal["adam", "sgd"] = "adam"
    """Adam pulls and decays apart from the gradients, as AdamW does; SGD has Nesterov momentum of 0.9."""
    learning_rate: Annotated[float, Meta(gt=0, le=1)] = 3e-3
    """The largest step size of the head."""
    epochs: Annotated[int, Meta(ge=1)] = 20
    """How often every training row is seen, at most."""
    batch: Annotated[int, Meta(ge=2)] = 64
    """Rows a step."""
    weight_decay: Annotated[float, Meta(ge=0, lt=1)] = 1e-2
    """How strongly the weights that are not pulled are drawn to zero; biases and norms are left out."""
    schedule: Literal["cosine", "one_cycle", "step", "plateau", "constant"] = "one_cycle"
    """How the step size moves over the training."""
    patience: Annotated[int, Meta(ge=0)] = 0
    """Epochs without a better validation quality after which training ends; 0 trains to the end."""
    smoothing: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    """Label smoothing: the share of each target that is spread over all classes."""
    focal: Annotated[float, Meta(ge=0, le=10)] = 0.0
    """Focal loss: how much less a row counts that is answered well already (gamma); for classes, 0 is off."""
    clip: Annotated[float, Meta(ge=0)] = 1.0
    """The largest norm of a step's gradient; 0 leaves gradients as they are."""
    class_weights: Literal["none", "balanced"] = "none"
    """"balanced" weighs rows of rare classes more, so that every class counts the same."""
    average: Annotated[float, Meta(ge=0, lt=1)] = 0.99
    """Decay of the running average of weights that is kept as the result; 0 keeps the last weights."""
    augment: list[dict[str, Any]] = []
    """Tables of augmentations, which every batch goes through in this order."""
    seconds: Annotated[float, Meta(ge=0)] = 0.0
    """How long training may take: the schedule is shortened to fit; 0 is no limit."""

    def __call__(
        self, model: Model, data: Splits, task: Task, judge: Judge, seed: int, checkpoint: Path | None = None
    ) -> Iterator[Progress]:
        """Train a copy of the model; with a `checkpoint` path, go on from there and keep it up to date."""
        from modelmill.train.resume import resumed
        from modelmill.train.start import knows_unit, with_head
        from modelmill.train.training import Training
        from modelmill.train.tuning import Tuning

        start = with_head(model, task, self.head == "new", seed)
        tuning = Tuning(freeze=self.freeze, thaw=self.thaw, layer_rate=self.layer_rate, pull=self.pull)
        warm = knows_unit(start, data.train, task)
        training = Training(start, data, task, Recipe.of(self.optimizer, self), seed, warm=warm, tuning=tuning)
        yield from resumed(training, checkpoint)
        yield training.finish("train.finetune")
