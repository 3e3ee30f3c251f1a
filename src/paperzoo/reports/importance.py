"""Which of a search's keys mattered."""

from collections.abc import Sequence
from typing import Any

from paperzoo.reports.model import Variant
from paperzoo.sweeps.specification import Parameter, Sweep

FEWEST = 3  # runs


def importance(sweep: Sweep, variants: Sequence[Variant]) -> dict[str, float]:
    """Each searched key's share of the variance of the score (fANOVA, Hutter et al. 2014), the largest first.

    Optuna's evaluator with a fixed seed. Keys of which all runs have the same value have no share; empty where there
    are fewer than three runs, or all have the same score.
    """
    import optuna

    keys = [key for key in sweep.varying if len({repr(variant.settings[key]) for variant in variants}) > 1]
    if len(variants) < FEWEST or not keys or len({variant.scores for variant in variants}) < 2:
        return {}
    space = {key: _distribution(sweep.parameters[key], [variant.settings[key] for variant in variants]) for key in keys}
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study()
    study.add_trials(
        [
            optuna.create_trial(
                params={key: _plain(sweep.parameters[key], variant.settings[key]) for key in keys},
                distributions=space,
                value=variant.scores[0],
            )
            for variant in variants
        ]
    )
    found = optuna.importance.get_param_importances(
        study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0)
    )
    return {key: float(found[key]) for key in sorted(found, key=lambda key: (-found[key], key))}


def _distribution(parameter: Parameter, seen: list[float]) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if parameter.choices is not None:
        return CategoricalDistribution([repr(choice) for choice in parameter.choices])
    return FloatDistribution(float(min(seen)), float(max(seen)), log="log" in parameter.kind and min(seen) > 0)


def _plain(parameter: Parameter, value: Any) -> Any:
    """A choice may be anything, Optuna's may not."""
    return float(value) if parameter.choices is None else repr(value)
