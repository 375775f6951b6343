"""What the options of all detectors have in common: frozen, complete, and refused with one clear error."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from monitor.documents import describe_problem
from monitor.errors import ConfigError

Scaling = Literal["log_zscore", "zscore", "none"]
Checkpoint = Literal["last", "pseudo_anomalies", "reconstruction"]
ScoreUnits = Literal["training_rows", "held_out", "raw"]
Width = Annotated[int, Field(ge=1, le=65536)]
Rate = Annotated[float, Field(gt=0, le=1)]
Share = Annotated[float, Field(ge=0, le=1)]

# With fewer training rows the seed of one network matters more than the cost of three.
FEW_ROWS = 10_000

# Defaults where rows are images: convolutions make a step slow, but few are needed.
IMAGE_DEFAULTS: Mapping[str, Any] = MappingProxyType({"batch_size": 64, "steps": 1500, "learning_rate": 2e-3})
ADVERSARIAL_IMAGE_DEFAULTS: Mapping[str, Any] = MappingProxyType(
    {**IMAGE_DEFAULTS, "discriminator_learning_rate": 2e-3}
)


class DetectorOptions(BaseModel):
    """Options that every detector has; subclasses add theirs and may change a default.

    Attributes:
        presets: what each preset changes; `default` changes nothing and is always there.
        image_defaults: defaults that are others where rows are images.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType({"default": {}})
    image_defaults: ClassVar[Mapping[str, Any]] = MappingProxyType(IMAGE_DEFAULTS)

    # Networks
    latent_dim: Width | None = Field(
        default=None, description="length of z; chosen from the width of the data by default"
    )
    encoder_widths: tuple[Width, ...] = Field(default=(128, 64), description="hidden layers of E")
    generator_widths: tuple[Width, ...] = Field(default=(64, 128), description="hidden layers of G")
    image_shape: tuple[Width, Width, Width] | None = Field(
        default=None, description="rows are images of this height, width, channels: the networks are convolutional"
    )
    channels: tuple[Width, ...] = Field(
        default=(16, 32),
        min_length=1,
        max_length=6,
        description="of images: channels of the convolutions, each of which halves height and width",
    )

    # Training
    scaling: Scaling = Field(
        default="log_zscore", description="how the preprocessor, outside of the detector, scales numeric columns"
    )
    steps: int | None = Field(
        default=None, ge=1, description="training steps; chosen from the number of rows by default"
    )
    epochs: int | None = Field(default=None, ge=1, description="the same, in passes over the rows")
    batch_size: int = Field(default=128, ge=1, le=65_536, description="rows of a batch; a step takes two batches")
    sampling: Literal["distinct", "epochs"] = Field(
        default="distinct", description="distinct rows with weight √count, or passes over all rows"
    )
    learning_rate: Rate = Field(default=5e-4, description="of E and G")
    final_learning_rate: Rate = Field(
        default=0.1, description="share of the rates that is left at the end of the cosine"
    )
    moving_average: float = Field(default=0.999, ge=0, lt=1, description="decay of the averaged weights that score")
    moving_average_ramp: bool = Field(default=True, description="a smaller decay in the first steps")
    members: int | None = Field(
        default=1,
        ge=1,
        le=16,
        description="networks trained side by side, whose scores are averaged; None is one, and three where fewer than "
        f"{FEW_ROWS:,} rows train",
    )

    # Stability
    checkpoint: Checkpoint = Field(
        default="last",
        description="weights that are kept without labels: the last ones, or those that do best on a tenth of the rows, "
        "held out: AUROC against copies with exchanged values, or reconstruction error",
    )
    early_stop_num: int | None = Field(
        default=None, ge=1, description="evaluations without improvement before the end; None trains all steps"
    )
    max_restarts: int = Field(default=2, ge=0, le=10, description="new starts after a collapse")
    trim: float = Field(
        default=0.0,
        ge=0,
        lt=0.5,
        description="share of the training rows left out, those with the sparsest surroundings: as much as the contamination "
        "that they may hold; rows that calibrate are all kept",
    )

    # Score
    score_units: ScoreUnits = Field(
        default="held_out",
        description="rows on which the terms of the score are calibrated; raw leaves them as they are",
    )

    def __init__(self, **values: Any) -> None:
        """Takes options by name.

        Raises:
            ConfigError: with every unknown name, the known ones, and every value out of range.
        """
        if values.get("image_shape") is not None:
            length = {"steps": None} if values.get("epochs") is not None else {}
            values = {**self.image_defaults, **length, **values}
        try:
            super().__init__(**values)
        except ValidationError as error:
            problems = [describe_problem(problem) for problem in error.errors()]
            if any(problem["type"] == "extra_forbidden" for problem in error.errors()):
                problems.append(f"known are {', '.join(sorted(type(self).model_fields))}")
            raise ConfigError("detector options", problems) from error

    @model_validator(mode="after")
    def _length_is_given_once(self) -> Self:
        if self.steps is not None and self.epochs is not None:
            raise ValueError("steps and epochs exclude each other; give one of them")
        return self

    @model_validator(mode="after")
    def _images_are_scaled(self) -> Self:
        if self.image_shape is not None and self.scaling == "none":
            raise ValueError(
                "scaling: images are made between -1 and 1, so 'none' does not suit them; leave scaling out"
            )
        return self

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Self:
        """The options of a preset with some changed: `default` (of our own) or, where a paper gives one, `paper`.

        Raises:
            ConfigError: an unknown preset or option, or a value out of range.
        """
        if name not in cls.presets:
            raise ConfigError("detector options", f"preset: expected one of {', '.join(cls.presets)}, got {name!r}")
        length = {"epochs": None} if "steps" in changes else {}
        published = dict(cls.presets[name])
        if changes.get("image_shape") is not None:
            published.pop("scaling", None)  # it is of tables: the papers bring images to -1 … 1
        return cls(**{**published, **length, **changes})


class AdversarialOptions(DetectorOptions):
    """Options of every detector that trains a discriminator."""

    discriminator_width: Width = Field(default=128, description="of the hidden layers of D")
    dropout: float = Field(default=0.2, ge=0, le=0.9, description="in D, in training only")
    spectral_normalisation: bool = Field(default=True, description="keeps D 1-Lipschitz (at most)")
    discriminator_learning_rate: Rate = Field(default=4e-4, description="of D")
    real_label: Rate = Field(default=0.9, description="what D is told about real rows")


class MixedLossOptions(AdversarialOptions):
    """Options of every detector whose generator learns from D and from reconstructions alike."""

    warm_up: float = Field(
        default=0.1, ge=0, le=1, description="share of the steps until the adversarial term has full weight"
    )
