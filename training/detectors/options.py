"""What the options of all detectors have in common: frozen, complete, and refused with one clear error."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from monitor.documents import describe_problem
from monitor.errors import ConfigError

Scaling = Literal["log_zscore", "zscore", "none"]


class DetectorOptions(BaseModel):
    """Options of one detector; subclasses add theirs.

    Attributes:
        scaling: how the preprocessor, which works outside of the detector, scales numeric columns for it.
        early_stop_num: evaluations without improvement before the end; None trains all steps.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    scaling: Scaling = "log_zscore"
    early_stop_num: int | None = Field(default=None, ge=1)

    def __init__(self, **values: Any) -> None:
        """Takes options by name.

        Raises:
            ConfigError: with every unknown name and every value out of range.
        """
        try:
            super().__init__(**values)
        except ValidationError as error:
            problems = [describe_problem(problem) for problem in error.errors()]
            raise ConfigError("detector options", problems) from error

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Self:
        """The options of the preset `default` or `paper`, with some changed.

        Raises:
            ConfigError: an unknown preset or option, or a value out of range.
        """
        raise NotImplementedError
