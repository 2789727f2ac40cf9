"""nats-py's client, held to TLS, and kept alive by whatever comes.

By itself it takes ``tls://`` for a wish, and sends passwords in the clear. And where somebody sends what it cannot
read, it stops reading without a word: the connection stands, and nothing comes any more.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any

from nats import errors
from nats.aio import client
from nats.protocol import parser

UNREADABLE = {"Content-Type": "unreadable headers"}
"""In the place of headers that cannot be read: no TaskSpec comes with such ones."""

# Its own patterns take a vertical tab or a form feed in a subject for an end of it, and wait for more for ever.
parser.MSG_RE = re.compile(rb"\AMSG[ \t]+([^ \t\r\n]+)[ \t]+(\d+)[ \t]+(([^ \t\r\n]+)[ \t]+)?(\d+)\r\n")
parser.HMSG_RE = re.compile(rb"\AHMSG[ \t]+([^ \t\r\n]+)[ \t]+(\d+)[ \t]+(([^ \t\r\n]+)[ \t]+)?(\d+)[ \t]+(\d+)\r\n")


def _is_object(value: object) -> bool:
    return isinstance(value, dict)


class Client(client.Client):
    """The client. ``tls_must``: nothing is said to a server that has no TLS."""

    tls_must = False

    def _connect_command(self) -> bytes:
        # Called when TLS stands if it ever will, and right before the first byte that says who we are.
        writer = getattr(self._transport, "_io_writer", None)
        if self.tls_must and not (writer and writer.get_extra_info("ssl_object")):
            raise errors.SecureConnWantedError
        return super()._connect_command()

    async def _process_connect_init(self) -> None:
        """What answers may be no NATS server at all: that is one more try that failed."""
        try:
            await super()._process_connect_init()
        except (OSError, errors.Error, TimeoutError):
            raise
        except Exception as error:
            raise errors.Error(f"nats: not understood ({type(error).__name__})") from error
        finally:
            # It copies what it was told at the next try, whatever that was: `INFO null`, say.
            self._server_info = self._server_info if _is_object(self._server_info) else {}

    async def _process_headers(self, headers: bytes) -> dict[str, str] | None:
        try:
            found: dict[str, str] | None = await super()._process_headers(headers)
        except (IndexError, ValueError):
            return UNREADABLE
        return found

    def _build_message(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: dict[str, str] | None
    ) -> Any:
        # A subject is any bytes to the server.
        shown = subject.decode("utf-8", "backslashreplace").encode()
        return super()._build_message(sid, shown, reply, data, headers)

    async def _read_loop(self) -> None:
        """Read until the connection ends; where reading itself fails, the connection is made anew."""
        await super()._read_loop()
        task = asyncio.current_task()
        if self.is_connected and not (task and task.cancelling()):
            await self._process_op_err(errors.ProtocolError())
