"""The options of sequences of numbers."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from paperzoo.config.schema import Count, Data, Positive
from paperzoo.errors import UserError


class SequenceOptions(Data):
    """Sequences of one length, and how batches are made of them."""

    model_config = ConfigDict(extra="forbid")

    source: str  # a function of paperzoo.data.sequences.sources, or of one's own
    drop_last: bool = True  # leave out the last, smaller batch of an epoch

    def check(self, config: Any) -> None:
        """Sequences are not mixed."""
        if config.mix.target:
            raise UserError(f"mix={config.mix.name} with data={self.name}: mixes images; use mix=none")


class AddingOptions(SequenceOptions):
    """The adding problem."""

    length: Annotated[int, Field(ge=2)]  # T
    train: Positive  # sequences
    validation: Positive
    test: Positive
    draw_seed: Count  # of the sequences: part of the data's fingerprint, not of the run's randomness

    @property
    def labelled(self) -> bool:
        """The answer is a number."""
        return False


class PixelOptions(SequenceOptions):
    """Images read pixel by pixel."""

    size: Literal[28, 14, 7]  # images are averaged to size x size, T is its square
    permuted: bool  # whether the pixels come in one random order
    permutation_seed: Count  # which one: part of the data's fingerprint
    validation: Annotated[float, Field(gt=0)]  # held out of all images: a number, or a fraction below 1
    test: Annotated[float, Field(gt=0)]  # likewise
    split_seed: Count  # of the split alone
    limit_train: Positive | None = None  # train on a stratified subset of so many


class OwnOptions(SequenceOptions):
    """Whatever a source of one's own reads."""

    model_config = ConfigDict(extra="allow")


BY_SOURCE: dict[str, type[SequenceOptions]] = {
    "paperzoo.data.sequences.sources.adding_problem": AddingOptions,
    "paperzoo.data.sequences.sources.digits_by_pixel": PixelOptions,
}


def sequence_options(chosen: Mapping[str, Any]) -> type[SequenceOptions]:
    """The class for a source."""
    return BY_SOURCE.get(str(chosen.get("source", "")), OwnOptions)


SCHEMAS = {"SequenceData": sequence_options}
