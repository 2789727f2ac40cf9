"""What all tests start from."""

from __future__ import annotations

import signal

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Started in the background of a shell: the commands that tests interrupt would be deaf as well.
    signal.signal(signal.SIGINT, signal.default_int_handler)
