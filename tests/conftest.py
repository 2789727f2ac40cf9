"""What all tests start from."""

from __future__ import annotations

import signal

import hypothesis

# How long one example takes says nothing on a machine that does other things as well.
hypothesis.settings.register_profile("no clock", deadline=None)
hypothesis.settings.load_profile("no clock")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Started in the background of a shell: the commands that tests interrupt would be deaf as well.
    signal.signal(signal.SIGINT, signal.default_int_handler)
