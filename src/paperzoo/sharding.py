"""``trainer.strategy=fsdp``: parameters, gradients and optimiser's state in parts over the ranks (Lightning's FSDP).

For networks that one GPU has no room to train. What lies on the disk is whole: checkpoints and states are those of any
other run, so that everything that reads a run reads these.
"""

import copy
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as L
import torch
from pytorch_lightning.strategies import FSDPStrategy
from pytorch_lightning.strategies.parallel import ParallelStrategy
from pytorch_lightning.trainer.states import TrainerFn, TrainerStatus
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel, OptimStateKeyType, StateDictType
from torch.distributed.fsdp.api import FullOptimStateDictConfig, FullStateDictConfig
from torch.distributed.fsdp.wrap import size_based_auto_wrap_policy
from torchmetrics import Metric

from paperzoo.distributed import gather
from paperzoo.errors import UserError

UNIT = 1_000_000  # parameters, at least, of a part of the network that is whole while it computes


class Sharded(FSDPStrategy):
    """Lightning's strategy, with five differences.

    - The module is whole again after each fit and test: Lightning (2.6.6) leaves parts in it, which the next pass would
      take for parameters.
    - The optimiser is made before the parameters become parts, which have neither shapes nor names to group them by.
    - Gradients are clipped by their norm over all ranks, as torch can: Lightning refuses it.
    - Checkpoints are read and written as any others, checked by their digest.
    - A resumed run's state is restored before the module is divided, as with any other strategy: Lightning restores it
      after the data was asked for its first batch.

    It runs on CPUs, too: torch can, and Lightning's refusal of it is of its own class alone.

    Args:
        backend: gloo or nccl; None: what goes with the device.
    """

    def __init__(self, backend: str | None = None) -> None:
        super().__init__(process_group_backend=backend, auto_wrap_policy=self._is_unit, state_dict_type="full")
        self.network: nn.Module | None = None  # that is divided
        self.whole: nn.Module | None = None  # it as it was before

    def _is_unit(self, module: nn.Module, recurse: bool, nonwrapped_numel: int) -> bool:
        """Torch's rule by size, but for the network: a task may call other methods of it than ``forward``."""
        if not recurse and module is self.network:
            return False
        return size_based_auto_wrap_policy(module, recurse, nonwrapped_numel, min_num_params=UNIT)

    def _clip(self, optimizer: Any, clip_val: float, **_: Any) -> None:
        self._divided.clip_grad_norm_(clip_val)

    def setup(self, trainer: L.Trainer) -> None:
        """Keep the whole network, make the optimiser, and divide."""
        module: Any = self.lightning_module
        self.network, self.whole = module.network, copy.deepcopy(module.network)
        for parameter in module.network.parameters():  # torch (2.14) restores an optimiser's state as if all were so
            parameter.data = parameter.data.contiguous()
        module._device = self.root_device  # what Lightning does where it moves a module itself
        if trainer.state.fn == TrainerFn.FITTING:
            if self._layer_sync:
                self.model = self._layer_sync.apply(module)
            ParallelStrategy.setup_optimizers(self, trainer)
        self.precision_plugin.clip_grad_by_norm = self._clip  # type: ignore[method-assign]
        super().setup(trainer)

    def _setup_model(self, model: nn.Module) -> nn.Module:
        """As Lightning does, with a device that may be a CPU."""
        divided = FullyShardedDataParallel(
            model,
            mixed_precision=None if self.precision_plugin.precision == "32-true" else self.mixed_precision_config,
            sharding_strategy=self.sharding_strategy,
            device_id=self.root_device,
            **self.kwargs,
        )
        for part in divided.modules():
            if isinstance(part, Metric):
                part.to(self.root_device)
        return divided

    def setup_optimizers(self, trainer: L.Trainer) -> None:
        """They are there."""

    def teardown(self) -> None:
        """Put the network together on every rank, unless the run has failed: then no other rank may be there."""
        trainer: Any = self.lightning_module.trainer if self.lightning_module is not None else None
        if self.whole is not None and trainer is not None and trainer.state.status == TrainerStatus.RUNNING:
            module: Any = self.lightning_module
            if trainer.state.fn == TrainerFn.FITTING:  # a test changes nothing
                prefix = "network."
                state = self._full_state(everywhere=True)
                own = {name.removeprefix(prefix): v for name, v in state.items() if name.startswith(prefix)}
                self.whole.load_state_dict(own)
            module.network, self.network, self.whole = self.whole, None, None
            module._device = torch.device("cpu")
            self.model = module
        super().teardown()

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """The whole, on rank 0."""
        return self._full_state(everywhere=False)

    def _full_state(self, *, everywhere: bool) -> dict[str, Any]:
        assert self.model is not None
        if not isinstance(self.model, FullyShardedDataParallel):
            return self.model.state_dict()
        with self._whole(everywhere=everywhere):
            return self.model.state_dict()

    def optimizer_state(self, optimizer: Any) -> dict[str, Any]:
        """The whole, on rank 0, as an optimiser of the whole network would have it.

        One kind of state after the other: of several, torch (2.14) gives the last one for each on a CPU, since it
        gathers them into one place and takes a copy to the CPU for another.
        """
        own = optimizer.state_dict()
        kinds = sorted({kind for names in gather([*{k for s in own["state"].values() for k in s}]) for kind in names})
        whole: dict[str, Any] = {}
        for kind in kinds or [""]:
            some = {number: {k: v for k, v in s.items() if k == kind} for number, s in own["state"].items()}
            with self._whole(everywhere=False):
                got = FullyShardedDataParallel.optim_state_dict(self._divided, optimizer, {**own, "state": some})
            for name, state in got.pop("state", {}).items():
                whole.setdefault(name, {}).update(state)
        state = {**got, "state": whole}
        return state if self.global_rank else self._with_keys(state, OptimStateKeyType.PARAM_ID, optimizer)

    @property
    def restore_checkpoint_after_setup(self) -> bool:
        """No: a run goes on in the order of any other, in which its data learns where it was before it is asked."""
        return False

    @property
    def lightning_restore_optimizer(self) -> bool:
        """Yes, by ``load_optimizer_state_dict``."""
        return True

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a checkpoint."""
        return self.checkpoint_io.load_checkpoint(checkpoint_path)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """The network is whole as yet."""
        assert self.lightning_module is not None
        self.lightning_module.load_state_dict(checkpoint["state_dict"], strict=strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Give each rank its part."""
        with self._whole(everywhere=True):
            for optimizer, saved in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
                state = self._with_keys(saved, OptimStateKeyType.PARAM_NAME, optimizer)
                part = FullyShardedDataParallel.optim_state_dict_to_load(self._divided, optimizer, state)
                optimizer.load_state_dict(part)

    @property
    def _divided(self) -> FullyShardedDataParallel:
        assert isinstance(self.model, FullyShardedDataParallel)
        return self.model

    def _with_keys(self, state: dict[str, Any], kind: OptimStateKeyType, optimizer: Any) -> dict[str, Any]:
        """Of parameters: their names, or their numbers in the groups of the optimiser."""
        return FullyShardedDataParallel.rekey_optim_state_dict(state, kind, self._divided, optim=optimizer)

    def _whole(self, *, everywhere: bool) -> Any:
        """While it lasts, states are whole: on every rank, or on rank 0."""
        options = {"offload_to_cpu": True, "rank0_only": not everywhere}
        return FullyShardedDataParallel.state_dict_type(
            self._divided,
            StateDictType.FULL_STATE_DICT,
            FullStateDictConfig(**options),
            FullOptimStateDictConfig(**options),
        )


def check(module: Any) -> None:
    """Whether a module can be trained in parts.

    Raises:
        UserError: something reads or keeps of each rank what is whole on none.
    """
    if module.has_rank_buffers:
        raise UserError(
            "trainer.strategy=fsdp: the network keeps statistics of each rank's own, which are in no whole; use "
            "trainer.strategy=ddp"
        )
    readers = ", ".join(type(callback).__name__ for callback in module.configure_callbacks())
    if readers:
        raise UserError(
            f"trainer.strategy=fsdp: {readers} reads parameters in training, of which each rank has a part; use "
            "trainer.strategy=ddp"
        )
