"""The exceptions that a user sees as one line, without traceback."""


class UserError(Exception):
    """A mistake that the user can mend.

    The message names the value, what is allowed and where it stands, e.g.
    ``trainer.max_epochs=0: must be at least 1``.
    """

    exit_code = 2


class RunError(UserError):
    """A run that failed on its way, through no mistake in the command: diverged, out of memory, disk full."""

    exit_code = 1
