"""Streams, consumer and bucket: made where they are missing, compared where they are not, changed only when told to.

What exists is never written over as a whole: the consumer's create call would change a live one without a word, so
it is only made with ``"action": "create"``, and a change sends the server's own settings back with ours laid over them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from issue_core.errors import ConfigError, NatsError, NatsMissing
from issue_core.transports.nats import names
from issue_core.transports.nats.jetstream import ask, find
from issue_core.transports.nats.wanted import SECOND, Setting, Wanted, setup_command

if TYPE_CHECKING:
    from collections.abc import Mapping

    from issue_core.config import NatsSettings
    from issue_core.transports.nats.connection import Link

Result = Literal["created", "unchanged", "changed", "drift", "missing"]

_DURATIONS = ("max_age", "duplicate_window", "ack_wait")
_UNITS = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))

Config = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Drift:
    """A setting that is not as it must be. Values are as people write them.

    ``can_change``: the server can do it. ``loses`` says which messages are lost by it, if any are; ``mend`` what to do.
    """

    field: str
    found: Any
    wanted: Any
    can_change: bool
    loses: str
    mend: str


@dataclass(frozen=True, slots=True)
class State:
    """One stream, consumer or bucket: how it is, and in which settings it differs from how it must be."""

    wanted: Wanted
    result: Result
    drift: tuple[Drift, ...] = ()
    changed: tuple[str, ...] = ()


async def inspect(link: Link, wanted: Wanted) -> State:
    """How it is; nothing is changed.

    Raises:
        NatsError: what :func:`~issue_core.transports.nats.jetstream.ask` raises.
    """
    found = await _config(link, wanted)
    if found is None:
        return State(wanted, "missing")
    drift = tuple(_drift(wanted, found))
    return State(wanted, "drift" if drift else "unchanged", drift)


def missing(link: Link, settings: NatsSettings, wanted: Wanted) -> NatsMissing:
    """The error of one that is not there."""
    return NatsMissing(
        f"there is no {wanted.kind} {wanted.name} at {link.server}.", hint=f"`{setup_command(settings)}` makes it"
    )


def require_usable(state: State, made_by: str) -> None:
    """See that nothing is lost in it, and that a consumer delivers no more than it should; ``made_by`` makes it right.

    Raises:
        ConfigError: it must not be used as it is.
    """
    for each in state.drift:
        # A wider filter loses nothing, but it delivers the verbs that have no meaning yet.
        if each.loses or each.field == "filter_subject":
            found = ", ".join(each.found) if isinstance(each.found, list) else each.found
            why = each.loses or "what is no new task is delivered as one"
            raise ConfigError(
                f"the {state.wanted.kind} {state.wanted.name} cannot be used: {each.field} is {found or 'unset'}, "
                f"not {each.wanted}: {why}.",
                hint=f"`{made_by}` shows all that differs; {each.mend}",
            )


async def set_up(link: Link, wanted: Wanted, *, apply: bool) -> State:
    """Make it where it is missing; with ``apply``, change what differs and can be changed.

    Raises:
        NatsError: what :func:`~issue_core.transports.nats.jetstream.ask` raises.
    """
    state = await inspect(link, wanted)
    if state.result == "missing":
        await _create(link, wanted)
        return State(wanted, "created")
    changes = tuple(each.field for each in state.drift if each.can_change)
    if not apply or not changes:
        return state
    await _update(link, wanted, changes)
    after = await inspect(link, wanted)
    done = tuple(sorted(set(changes) - {each.field for each in after.drift}))
    return State(wanted, "drift" if after.drift else "changed", after.drift, done)


async def _config(link: Link, wanted: Wanted) -> Config | None:
    if wanted.kind == "consumer":
        answer = await find(link, f"CONSUMER.INFO.{wanted.stream}.{wanted.name}")
    else:
        answer = await find(link, f"STREAM.INFO.{wanted.stream}")
    return answer and answer["config"]


async def _create(link: Link, wanted: Wanted) -> None:
    made = (each for each in wanted.settings if each.value is not None and not each.is_least)
    config: Config = {each.name: each.value for each in made} | dict(wanted.extra)
    if wanted.kind == "consumer":
        _lay_filter(config, wanted)
        await _write_consumer(link, wanted, config | {"durable_name": wanted.name, "name": wanted.name}, "create")
    else:
        config |= {"name": wanted.stream, "subjects": list(wanted.subjects)}
        await ask(link, f"STREAM.CREATE.{wanted.stream}", config)


async def _update(link: Link, wanted: Wanted, changes: tuple[str, ...]) -> None:
    config = await _config(link, wanted)
    if config is None:
        raise NatsError(f"{wanted.kind} {wanted.name} was removed in this moment.", hint="run it again")
    for each in wanted.settings:
        if each.name in changes:
            _lay(config, each)
    # The server's own notes are not ours to send back.
    config["metadata"] = {k: v for k, v in config.get("metadata", {}).items() if not k.startswith("_nats.")}
    if wanted.kind == "consumer":
        if "filter_subject" in changes:
            _lay_filter(config, wanted)
        await _write_consumer(link, wanted, config, "update")
        return
    if "subjects" in changes:
        config["subjects"] = _widened(wanted, config)
    await ask(link, f"STREAM.UPDATE.{wanted.stream}", config)


async def _write_consumer(link: Link, wanted: Wanted, config: Config, action: str) -> None:
    # The server insists that the subject of the call names the filter, where there is exactly one.
    behind = f".{config['filter_subject']}" if config.get("filter_subject") else ""
    body = {"stream_name": wanted.stream, "config": config, "action": action}
    await ask(link, f"CONSUMER.CREATE.{wanted.stream}.{wanted.name}{behind}", body)


def _lay(config: Config, setting: Setting) -> None:
    if setting.value is None:
        config.pop(setting.name, None)
    else:
        config[setting.name] = setting.value
    if setting.name == "priority_policy":
        config.pop("priority_groups", None)


def _lay_filter(config: Config, wanted: Wanted) -> None:
    config.pop("filter_subjects", None)
    config["filter_subject"] = wanted.subjects[0]


def _drift(wanted: Wanted, found: Config) -> list[Drift]:
    differing = [each for each in wanted.settings if not _is_same(each, found.get(each.name))]
    drift = [_of_setting(wanted, each, found) for each in differing]
    return [*drift, *_of_subjects(wanted, found)]


def _is_same(setting: Setting, found: Any) -> bool:
    if setting.is_least:
        return not found or bool(found >= setting.value)
    if setting.value is None:
        return found in (None, False, "", "none")
    if setting.name == "max_msgs_per_subject":
        return found in (None, 0, -1)
    return bool(found == setting.value)


def _of_setting(wanted: Wanted, setting: Setting, found: Config) -> Drift:
    value = found.get(setting.name)
    return Drift(
        field=setting.name,
        found=shown(setting.name, value),
        wanted=shown(setting.name, setting.value),
        can_change=not setting.is_fixed,
        loses=setting.loses,
        mend=_by_hand(wanted) if setting.is_fixed else "--apply changes it",
    )


def _by_hand(wanted: Wanted) -> str:
    if wanted.kind == "consumer":
        return (
            f"it cannot be changed: remove it (nats consumer rm {wanted.stream} {wanted.name}) and run "
            "`issue nats setup` again"
        )
    return (
        f"it cannot be changed: when all that is in it was read, remove it (nats stream rm {wanted.stream}) "
        "and run `issue nats setup` again"
    )


def _of_subjects(wanted: Wanted, found: Config) -> list[Drift]:
    if wanted.kind != "consumer":
        had, should = found.get("subjects", []), _widened(wanted, found)
        lost = "what is published there is not stored"
        return [] if had == should else [Drift("subjects", had, should, True, lost, "--apply changes it")]
    filters = found.get("filter_subjects") or [each for each in (found.get("filter_subject"),) if each]
    if filters == list(wanted.subjects):
        return []
    mend = "--apply changes it"
    loses = "" if _takes_all(filters, wanted) else "some of the tasks are not delivered"
    return [Drift("filter_subject", filters, wanted.subjects[0], True, loses, mend)]


def _takes_all(filters: list[str], wanted: Wanted) -> bool:
    return not filters or any(names.covers(each, wanted.subjects[0]) for each in filters)


def _widened(wanted: Wanted, config: Mapping[str, Any]) -> list[str]:
    """The subjects that it has and those that it lacks; the server refuses two of which one covers the other."""
    had = list(config.get("subjects") or ())
    lacking = [each for each in wanted.subjects if not any(names.covers(pattern, each) for pattern in had)]
    return [each for each in had if not any(names.covers(pattern, each) for pattern in lacking)] + lacking


def shown(field: str, value: Any) -> Any:
    """A value of the API as people write it: a duration like ``7d``, ``unset`` for what is absent."""
    if value in (None, ""):
        return "unset"
    if field in _DURATIONS and isinstance(value, int):
        return _duration(value)
    return value


def _duration(nanoseconds: int) -> str:
    if nanoseconds <= 0:
        return "unlimited"
    seconds, rest = divmod(nanoseconds, SECOND)
    if rest:
        return f"{nanoseconds / SECOND:g}s"
    return next(f"{seconds // length}{unit}" for length, unit in _UNITS if seconds % length == 0)
