"""The options of texts and of their sampler."""

from typing import Annotated, Any

from pydantic import ConfigDict, Field

from paperzoo.config.schema import Data, Positive, Sampler
from paperzoo.errors import UserError

Part = Annotated[float, Field(gt=0, lt=1)]


class TextOptions(Data):
    """A text and how batches are made of it; the sizes of batches count streams."""

    model_config = ConfigDict(extra="forbid")

    source: str  # a function of paperzoo.data.text.sources, or of one's own
    file: str | None = None  # of source file: a path, or one within paths.data_dir
    characters: Annotated[int, Field(ge=1000)] | None = None  # of source embedded
    length: Positive  # T, characters that a batch has of each stream: how far gradients reach back
    eval_streams: Positive  # streams that val and test are read in, each from a state of zeros: part of the result
    validation: Part  # share of the text, before the test part
    test: Part  # share of the text, at its end
    limit_train: Annotated[int, Field(ge=2)] | None = None  # train on the first so many characters

    @property
    def labelled(self) -> bool:
        """Characters have no class."""
        return False

    def check(self, config: Any) -> None:
        """What does not go together."""
        if config.mix.target:
            raise UserError(f"mix={config.mix.name} with data={self.name}: mixes images; use mix=none")
        if self.validation + self.test >= 1:
            raise UserError(
                f"data.validation={self.validation:g} and data.test={self.test:g}: leave no text to train on"
            )
        for needs, key in (("embedded", "characters"), ("file", "file")):
            if self.source == f"paperzoo.data.text.sources.{needs}" and getattr(self, key) is None:
                raise UserError(f"data.{key} must be given with data.source={self.source}")


class Streams(Sampler):
    """No options."""

    model_config = ConfigDict(extra="forbid")


SCHEMAS = {"TextData": TextOptions, "streams": Streams}
