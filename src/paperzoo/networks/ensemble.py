"""Several networks of one architecture in one module, which vote.

Symbols: M members, B images, K classes, a (M,) the members' weights in the vote.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import timm
import torch
from torch import Tensor, nn

from paperzoo.errors import UserError
from paperzoo.randomness import seed_of


def soft_vote(logits: Tensor, weights: Tensor) -> Tensor:
    """The weighted mean of the members' probabilities.

    Args:
        logits: (M, B, K).
        weights: (M,), at least 0.

    Returns:
        (B, K) log-probabilities: ``log(Σ a softmax(logits) / Σ a)``.
    """
    weights = weights.to(logits)
    shares = (weights / weights.sum()).log()
    return torch.logsumexp(logits.log_softmax(-1) + shares[:, None, None], dim=0)


def hard_vote(logits: Tensor, weights: Tensor) -> Tensor:
    """The weighted share of the members whose most probable class it is (the first of equals).

    Args:
        logits, weights: as ``soft_vote``.

    Returns:
        (B, K) logarithms of the shares; a class without a vote has that of the smallest number above 0.
    """
    weights = weights.to(logits)
    shares = (_votes(logits) * weights[:, None, None]).sum(0) / weights.sum()
    return shares.clamp_min(torch.finfo(shares.dtype).tiny).log()


def samme_vote(logits: Tensor, weights: Tensor) -> Tensor:
    """SAMME's vote: a member adds a to its class and ``-a / (K - 1)`` to each other (Zhu et al., 2009, Algorithm 2).

    Args:
        logits, weights: as ``soft_vote``; K is at least 2.

    Returns:
        (B, K): the vote over ``Σ a``, divided by K - 1, so that its softmax are the probabilities.
    """
    weights = weights.to(logits)
    others = logits.shape[-1] - 1
    codes = _votes(logits) * (1 + 1 / others) - 1 / others
    return (codes * weights[:, None, None]).sum(0) / weights.sum() / others


def additive_vote(logits: Tensor, weights: Tensor) -> Tensor:
    """The weighted sum of the logits, as gradient boosting adds its members up.

    Args:
        logits, weights: as ``soft_vote``.

    Returns:
        (B, K): ``Σ a logits``.
    """
    return (logits * weights.to(logits)[:, None, None]).sum(0)


def _votes(logits: Tensor) -> Tensor:
    """(M, B, K): 1 at the class of a member, else 0."""
    return torch.zeros_like(logits).scatter_(-1, logits.argmax(-1, keepdim=True), 1.0)


VOTES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "soft": soft_vote,
    "hard": hard_vote,
    "samme": samme_vote,
    "sum": additive_vote,
}


class Ensemble(nn.Module):
    """Members that vote.

    Member m is built with random numbers of its own, a function of torch's seed and of ``first + m`` alone: it is the
    same in an ensemble of any size.

    Args:
        makes: M functions, at least one, each makes a member that gives logits (B, K).
        first: number of the first member.
        voting: how they vote, a key of ``VOTES``.

    Attributes:
        members: the networks.
        weights: (M,) of the members in the vote, a buffer that ``weigh`` sets; one with weight 0 is not asked.
        active: the one member that is trained and asked; None: all are.
        chosen: the members that were active.

    Raises:
        UserError: there is no member, or no such vote.
    """

    weights: Tensor

    def __init__(self, makes: Sequence[Callable[[], nn.Module]], first: int = 0, voting: str = "soft") -> None:
        super().__init__()
        if not makes or first < 0:
            raise UserError(f"an ensemble of {len(makes)} members from number {first} on: must be at least 1 and 0")
        if voting not in VOTES:
            raise UserError(f"model.voting={voting}: must be one of {', '.join(VOTES)}")
        self.first, self.voting = first, voting
        self.members = nn.ModuleList(_seeded(make, first + number) for number, make in enumerate(makes))
        self.register_buffer("weights", torch.ones(len(makes)))
        self.active: int | None = None
        self.chosen: set[int] = set()
        self._frozen: set[str] | None = None  # parameters that are not trained whichever member is (model.freeze)
        self.look()
        self.register_load_state_dict_post_hook(_look)

    def look(self) -> None:
        """Note which members vote: a look at each call would wait for the device, and no exporter could follow it."""
        numbers = range(len(self.members))
        self.voters = list(numbers) if self.weights.is_meta else [n for n in numbers if float(self.weights[n]) > 0]

    @torch.no_grad()
    def weigh(self, weights: Sequence[float]) -> None:
        """Set the weights of the first members in the vote; the others have none."""
        self.weights.zero_()
        self.weights[: len(weights)] = torch.tensor(weights, dtype=self.weights.dtype)
        self.look()

    def select(self, active: int | None) -> None:
        """Let one member be trained and asked alone, or all of them (None); what is frozen before stays so.

        Raises:
            UserError: nothing of it is left to train.
        """
        if self._frozen is None:
            self._frozen = {name for name, parameter in self.members.named_parameters() if not parameter.requires_grad}
        self.active = active
        self.chosen |= set() if active is None else {active}
        for name, parameter in self.members.named_parameters():
            chosen = active is None or name.startswith(f"{active}.")
            parameter.requires_grad_(chosen and name not in self._frozen)
        if self._frozen and not any(parameter.requires_grad for parameter in self.members.parameters()):
            raise UserError(f"model.freeze: leaves nothing of member {active} to train")

    def asked(self) -> list[int]:
        """The members that are trained and asked."""
        return self.voters if self.active is None else [self.active]

    def each(self, images: Tensor, numbers: list[int]) -> list[Tensor]:
        """The logits (B, K) of some members; apart, so that one that is left out of a loss gets no gradient."""
        return [_logits(self.members[number](images)) for number in numbers]

    def vote(self, logits: Tensor, numbers: list[int]) -> Tensor:
        """The vote (B, K) of the logits (M, B, K) of some members; of one alone its logits, unless they are summed."""
        if len(numbers) == 1 and self.voting != "sum":
            return logits[0]
        return VOTES[self.voting](logits, self.weights[numbers])

    def log_probabilities(self, logits: Tensor, numbers: list[int]) -> Tensor:
        """What a loss is measured on, (B, K) up to a constant of each row.

        The mean probabilities, however the members vote; the sum where logits are summed.
        """
        if self.voting == "sum":
            return self.vote(logits, numbers)
        return logits[0] if len(numbers) == 1 else soft_vote(logits, self.weights[numbers])

    def forward(self, images: Tensor, apart: bool = False) -> Any:
        """(B, C, H, W) -> the vote (B, K) of those asked, or ``apart`` the logits (B, K) of each."""
        numbers = self.asked()
        logits = self.each(images, numbers)
        return logits if apart else self.vote(torch.stack(logits), numbers)


def ensemble_of(
    member: str = "resnet",
    member_network: str | None = None,
    members: int = 4,
    first: int = 0,
    voting: str = "soft",
    **options: Any,
) -> Ensemble:
    """An ensemble over a paper's network.

    Args:
        member: the paper.
        member_network: the network's name in timm's registry; None is the paper's small one.
        members: M.
        first, voting: as ``Ensemble``.
        options: of the network.

    Raises:
        UserError: there is no such network.
    """
    return Ensemble([maker(member, member_network, **options)] * members, first, voting)


def maker(paper: str, network: str | None = None, **options: Any) -> Callable[[], nn.Module]:
    """What makes a paper's network, as ``ensemble_of``."""
    importlib.import_module(f"paperzoo.papers.{paper}")  # it registers its networks
    name = network or f"{paper}_small"
    if not timm.is_model(name):
        raise UserError(f"model.member_network={name}: there is no such network of {paper}")
    own = {key: value for key, value in options.items() if not key.startswith(("pretrained", "cache_"))}  # timm's own
    return partial(timm.create_model, name, **own)


def member_state(state: Mapping[str, Tensor], number: int) -> dict[str, Tensor]:
    """The weights of one member in the keys of its own network, from those of an ensemble or of a run's checkpoint.

    Args:
        state: a state dict of an ``Ensemble``, or of a module whose ``network`` is one.
        number: of the member in the ensemble, from 0.

    Raises:
        UserError: there is no such member.
    """
    for prefix in (f"network.members.{number}.", f"members.{number}."):
        if own := {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}:
            return own
    raise UserError(f"member {number}: these weights have no such member of an ensemble")


def _look(module: Any, _: Any) -> None:
    module.look()


def _seeded(make: Callable[[], nn.Module], number: int) -> nn.Module:
    seed = seed_of(torch.initial_seed(), "member", number)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def _logits(output: Any) -> Tensor:
    if not isinstance(output, Tensor):
        raise UserError("a member of an ensemble must give logits alone; turn off its other heads")
    return output
