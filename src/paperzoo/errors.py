"""The exceptions that a user sees as one line, without traceback."""

import signal


class UserError(Exception):
    """A mistake that the user can mend.

    The message names the value, what is allowed and where it stands, e.g.
    ``trainer.max_epochs=0: must be at least 1``.
    """

    exit_code = 2


class RunError(UserError):
    """A run that failed on its way, through no mistake in the command: diverged, out of memory, disk full."""

    exit_code = 1


class Interrupted(BaseException):
    """A run was stopped by a signal; its exact state is saved. Not an error, so nothing may swallow it."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.exit_code = 128 + number  # as a shell reports it: 143 for SIGTERM, 130 for Ctrl-C


class NonFiniteLoss(Exception):
    """The loss became NaN or infinite; ``batches_ago`` is 0 for a batch whose step is still to come."""

    def __init__(self, batches_ago: int, value: float, last_finite: float | None) -> None:
        super().__init__(f"the loss became {value}")
        self.batches_ago = batches_ago
        self.value = value
        self.last_finite = last_finite


def first_line(error: Exception) -> str:
    """The first line of another library's error, or its kind where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
