"""Secrets: the configuration names where one is, and it is read there when it is needed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from issue_core.errors import ConfigError

Source = Literal["env", "file", "command"]

FORM = '{ env = "NAME" }, { file = "PATH" } or { command = ["PROGRAM", "ARGUMENT"] }'
"""How a secret is named in the file."""

COMMAND_TIMEOUT = 30.0
"""Seconds that a command has to print a secret."""

LONGEST = 64 * 1024
"""Bytes that a secret may have: what is longer is some other file."""


@dataclass(frozen=True, slots=True, repr=False)
class Secret:
    """Where the secret of ``key`` is: in an environment variable, in a file, or printed by a command.

    ``place`` is the variable's name, the file's absolute path, or the command with its arguments. The value is
    never kept, and an argument (which may be a secret too) is never shown.
    """

    key: str
    source: Source
    place: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Secret({self.key}, from {self})"

    def __str__(self) -> str:
        kinds = {"env": "the environment variable", "file": "the file", "command": "the command"}
        return f"{kinds[self.source]} {self.place[0]}"

    def resolve(self, *, timeout: float = COMMAND_TIMEOUT) -> str:
        """The secret's value, read now, without the newline at its end.

        A command is run without a shell and without standard input, and has ``timeout`` seconds.

        Raises:
            ConfigError: it is not there, cannot be read, is empty, or is not one line of UTF-8.
        """
        raw = self._raw(timeout)
        if len(raw) > LONGEST:
            raise self._error(f"gives more than {LONGEST} bytes")
        try:
            value = raw.decode().rstrip("\r\n")
        except UnicodeDecodeError:
            raise self._error("gives something that is not UTF-8") from None
        if not value:
            raise self._error("gives nothing")
        if any(char < " " or char == "\x7f" for char in value):
            raise self._error("gives more than one line, or control characters; a secret is one line of text")
        return value

    def to_json(self) -> dict[str, str | list[str]]:
        """The secret's place in the form that the file has, its command without the arguments."""
        if self.source != "command":
            return {self.source: self.place[0]}
        return {"command": [self.place[0], *("…" for _ in self.place[1:])]}

    def _raw(self, timeout: float) -> bytes:
        match self.source:
            case "env":
                return self._variable()
            case "file":
                return self._file()
            case "command":
                return self._output(timeout)

    def _variable(self) -> bytes:
        if (value := os.environ.get(self.place[0])) is None:
            raise self._error("is not set")
        return os.fsencode(value)

    def _file(self) -> bytes:
        try:
            with Path(self.place[0]).open("rb") as file:
                return file.read(LONGEST + 1)
        except OSError as error:
            raise self._error(f"cannot be read: {error.strerror}") from None

    def _output(self, timeout: float) -> bytes:
        import subprocess

        try:
            # Its standard error stays the user's: that is where it says what it lacks.
            ended = subprocess.run(
                self.place, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=timeout, check=False
            )
        except subprocess.TimeoutExpired:
            raise self._error(f"did not end within {timeout:g} seconds") from None
        except OSError as error:
            raise self._error(f"cannot be run: {error.strerror}") from None
        if ended.returncode:
            raise self._error(f"ended with status {ended.returncode}")
        return ended.stdout

    def _error(self, what: str) -> ConfigError:
        return ConfigError(
            f"{self.key}: {self} {what}.", hint=f"put the secret there, or change {self.key} in the file"
        )
