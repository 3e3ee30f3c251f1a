"""The options of procedures."""

from pydantic import ConfigDict

from paperzoo.config.schema import Procedure


class Fit(Procedure):
    """One training has none."""

    model_config = ConfigDict(extra="forbid")


SCHEMAS = {"Fit": Fit}
