"""A document's bytes, read as the JSON object that they should be."""

from __future__ import annotations

import json
import sys
from collections import Counter
from typing import Any

from issue_core.task import Document
from issue_core.taskspec.problems import NoJsonNumber, kind_of, quoted


class Unreadable(Exception):
    """The document is no JSON, or cannot be read as the JSON that it is."""


def parse(document: Document) -> Any:
    """The JSON object that the document is.

    Raises:
        Unreadable: it is too long, broken, not UTF-8, not JSON or no object; or a key in it is given twice.
    """
    if document.oversize:
        raise Unreadable(
            f"is {document.oversize.length:,} bytes long; {document.oversize.limit:,} are allowed "
            "(max_document in the section [ingest] of the configuration)"
        )
    if document.broken:
        raise Unreadable(document.broken)
    try:
        value = _decoder.decode(document.raw.decode())
    except UnicodeDecodeError as error:
        raise Unreadable(
            f"is not valid UTF-8: the byte 0x{document.raw[error.start]:02x} at byte {error.start + 1} fits nowhere"
        ) from None
    except json.JSONDecodeError as error:
        what = error.msg[:1].lower() + error.msg[1:].removesuffix(" at")
        raise Unreadable(f"is not JSON: {what} at {_where(error)}") from None
    except RecursionError:
        raise Unreadable("is nested too deeply to be read") from None
    except ValueError:
        # The only other one: so long an integer takes Python too much time to read.
        raise Unreadable(f"holds a number of more than {sys.get_int_max_str_digits():,} digits") from None
    if not isinstance(value, dict):
        raise Unreadable(f"must be a JSON object, not {kind_of(value)}")
    return value


def _where(error: json.JSONDecodeError) -> str:
    return f"line {error.lineno}, column {error.colno}" if error.lineno > 1 else f"column {error.colno}"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        times = Counter(name for name, _ in pairs)
        raise Unreadable(f"gives the key {quoted(times.most_common(1)[0][0])} twice")
    return value


_decoder = json.JSONDecoder(object_pairs_hook=_object, parse_constant=NoJsonNumber)
