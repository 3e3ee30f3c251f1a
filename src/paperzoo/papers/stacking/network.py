"""Networks of several papers, classical learners beside them, and a linear meta-learner upon their probabilities."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from timm.models import register_model
from torch import Tensor, nn

from paperzoo.errors import UserError
from paperzoo.networks.ensemble import Ensemble, maker
from paperzoo.papers.stacking.learners import LEARNERS

FEATURES = ("raw", "penultimate")


class Stacked(Ensemble):
    """An ensemble whose vote is a multinomial logistic regression upon the members' probabilities.

    Until the meta-learner is fitted, the vote is the mean of the probabilities. Learners are members, too, after the
    networks; until they are fitted they are not asked.

    Args:
        makes: functions, at least one, each makes a network that gives logits (B, K).
        num_classes: K.
        learners: names in ``LEARNERS``; M counts networks and learners.
        features: what learners see: "raw", the normalised pixels, or "penultimate", what the first network gives to its
            classifier.

    Attributes:
        networks: how many of the members are networks.
        meta_weight: (K, M K), a buffer: column m K + k is of class k of member m.
        meta_bias: (K,), a buffer.
        fitted: (), whether they are.
    """

    meta_weight: Tensor
    meta_bias: Tensor
    fitted: Tensor

    def __init__(
        self,
        makes: Sequence[Callable[[], nn.Module]],
        num_classes: int,
        learners: Sequence[str] = (),
        features: str = "raw",
    ) -> None:
        unknown = next((name for name in learners if name not in LEARNERS), None)
        if unknown is not None:
            raise UserError(f"model.learners={unknown}: must be of {', '.join(LEARNERS)}")
        if features not in FEATURES:
            raise UserError(f"model.features={features}: must be one of {', '.join(FEATURES)}")
        if not makes:
            raise UserError("model.papers=[]: must name at least one paper")
        super().__init__([*makes, *(partial(LEARNERS[name], num_classes) for name in learners)])
        self.networks, self.features = len(makes), features
        if learners and features == "penultimate" and not hasattr(self.members[0], "forward_head"):
            raise UserError(
                f"model.features=penultimate: {type(self.members[0]).__name__} has no layer before its classifier"
            )
        self.register_buffer("meta_weight", torch.zeros(num_classes, len(self.members) * num_classes))
        self.register_buffer("meta_bias", torch.zeros(num_classes))
        self.register_buffer("fitted", torch.tensor(False))
        self.look()

    def look(self) -> None:
        """Note also whether there is a meta-learner."""
        super().look()
        fitted = getattr(self, "fitted", None)
        self.has_meta = fitted is not None and not fitted.is_meta and bool(fitted)

    @property
    def learners(self) -> list[Any]:
        """The members that are fitted, not trained."""
        return list(self.members)[self.networks :]

    def asked(self) -> list[int]:
        """Without learners that are not fitted yet."""
        return [n for n in super().asked() if n < self.networks or self.members[n].fitted]

    def each(self, images: Tensor, numbers: list[int]) -> list[Tensor]:
        """The logits (B, K) of some members, in their order."""
        found = super().each(images, [n for n in numbers if n < self.networks])
        if len(found) == len(numbers):
            return found
        rows = self.rows(images)
        return found + [self.members[n](rows) for n in numbers if n >= self.networks]

    def rows(self, images: Tensor) -> Tensor:
        """What learners see (B, D) of images (B, C, H, W)."""
        if self.features == "raw":
            return images.flatten(1)
        network: Any = self.members[min(self.voters)]  # the first that was not left out
        return network.forward_head(network.forward_features(images), pre_logits=True).flatten(1)

    def make_room(self, state: Mapping[str, Tensor]) -> None:
        """Give the learners' buffers the sizes that they have in a state dict of this network."""
        for number, learner in enumerate(self.learners, self.networks):
            prefix = f"members.{number}."
            learner.make_room({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})

    def vote(self, logits: Tensor, numbers: list[int]) -> Tensor:
        """The meta-learner's logits (B, K) of the logits (M, B, K) of the members that are asked."""
        if not self.has_meta:
            return super().vote(logits, numbers)
        return self.log_probabilities(logits, numbers)

    def log_probabilities(self, logits: Tensor, numbers: list[int]) -> Tensor:
        """Likewise."""
        if not self.has_meta:
            return super().log_probabilities(logits, numbers)
        weight = self.meta_weight.to(logits)
        if len(numbers) < len(self.members):  # a member that was left out had no column when it was fitted
            weight = weight.unflatten(1, (len(self.members), -1))[:, numbers].flatten(1)
        return nn.functional.linear(side_by_side(logits), weight, self.meta_bias.to(logits))


def side_by_side(logits: Tensor) -> Tensor:
    """The members' probabilities (B, M K) from their logits (M, B, K)."""
    return logits.softmax(-1).transpose(0, 1).flatten(1)


@register_model
def stacking(
    pretrained: bool = False,
    papers: Sequence[str] = ("resnet", "resnext"),
    num_classes: int = 10,
    learners: Sequence[str] = (),
    features: str = "raw",
    **options: Any,
) -> Stacked:
    """The small networks of papers, stacked, and classical learners beside them.

    Args:
        pretrained: there are no weights.
        papers: slugs.
        num_classes: K.
        learners, features: as ``Stacked``.
        options: of each network.
    """
    makes = [maker(paper, num_classes=num_classes, **options) for paper in papers]
    return Stacked(makes, num_classes, learners, features)
