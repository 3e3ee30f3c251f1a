"""The one exception for a user's mistake."""


class UserError(Exception):
    """A mistake that the user can mend: shown as one line, without traceback, exit code 2.

    The message names the value, what is allowed and where it stands, e.g.
    ``trainer.max_epochs=0: must be at least 1``.
    """
