"""Start a command that gets SIGTERM when the process that asked for it is gone, even by SIGKILL.

    python -S tied.py <process id of who asks> <command> ...

A program of its own: between fork and exec nothing else may be done in a process that has threads. Only Linux can
tell; elsewhere an orphan goes on, and whoever takes its run over ends it first.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1

if __name__ == "__main__":
    parent, *command = sys.argv[1:]
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != int(parent):  # it died before
            sys.exit(1)
    os.execvp(command[0], command)
