"""The command line: ``issue``. It starts fast, and what a user can cause ends in a line, not in a traceback."""

from __future__ import annotations

import gc
import signal
import sys
import time

EXIT_INTERRUPTED = 130
"""128 and the number of SIGINT, as shells count."""


def main() -> int:
    """Run the command that the arguments ask for; gives the exit code."""
    # A short life makes little garbage, and to look for it takes a tenth of a start. What runs long turns it on again.
    gc.disable()
    try:
        return _run(sys.argv[1:])
    except KeyboardInterrupt:
        # It came before or after everything that could say more.
        return EXIT_INTERRUPTED
    finally:
        # All is done: a Ctrl-C from here on would only make the interpreter complain while it ends.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        # Spares the interpreter one last look through everything at its end.
        gc.freeze()


def _run(arguments: list[str]) -> int:
    from issue_core.cli import output
    from issue_core.errors import IssueCoreError

    output.prepare()
    output.log_as(verbosity=0, as_json=False)
    began = time.monotonic()
    try:
        from issue_core.cli.app import run

        code = run(arguments)
    except KeyboardInterrupt as stop:
        output.message(f"issue: interrupted{str(stop) and f': {stop}'}")  # a command may say how far it came
        code = EXIT_INTERRUPTED
    except (output.ReaderGone, BrokenPipeError):
        code = output.EXIT_READER_GONE
    except IssueCoreError as error:
        output.show_error(error)
        code = error.exit_code
    except OSError as error:
        output.show_error(IssueCoreError(f"{error.filename or 'the system'}: {error.strerror or error}"))
        code = IssueCoreError.exit_code
    code = output.finish(code)
    output.note("end", exit_code=code, seconds=round(time.monotonic() - began, 3))
    return code
