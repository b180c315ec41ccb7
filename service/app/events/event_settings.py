"""The settings of events."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator

from service.app.settings_sections import Seconds, Section
from service.domain.model import EventKind

_EVENT_BUS = re.compile(
    r"[A-Za-z0-9_./-]{1,256}|arn:[a-z-]+:events:[a-z0-9-]+:[0-9]{12}:event-bus/[A-Za-z0-9_./-]{1,256}"
)
_TOPIC_ARN = re.compile(r"arn:[a-z-]+:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]{1,256}")


class EventSettings(Section):
    """Events of batches, the targets that get them, and tasks of Step Functions that wait for batches."""

    webhook_url: SecretStr = Field(
        default=SecretStr(""), description="Address that events are posted to, https://…; empty: none"
    )
    webhook_secret: SecretStr = Field(
        default=SecretStr(""),
        description="Place of the webhook's signing secret: ssm:/name, a name or ARN of Secrets Manager, "
        "file:/path or env:NAME; #key behind it names a key of a JSON object. Never the secret itself",
    )
    event_bus: str = Field(
        default="", description="EventBridge bus (name or ARN) that events are put on; empty: none"
    )
    topic_arn: str = Field(default="", description="SNS topic that events are published to; empty: none")
    kinds: str = Field(
        default="all", description=f"Kinds of events, with commas: {', '.join(EventKind)}; or all"
    )
    allow_private: bool = Field(
        default=False, description="The webhook may be in your own network, and without TLS"
    )
    heartbeat_s: Seconds = Field(
        default=60, description="A task of Step Functions that waits for a batch gets a heartbeat this often"
    )

    @field_validator("webhook_secret")
    @classmethod
    def _is_a_reference(cls, value: SecretStr) -> SecretStr:
        text = value.get_secret_value()
        if text.startswith("whsec_"):
            raise ValueError(
                "is the secret itself; name the place where it is, such as ssm:/rowfleet/webhook or env:NAME"
            )
        if text:
            # Imported for a set value only: most commands read the settings and need no mapping language.
            from service.mapping.syntax.problems import CompileError  # noqa: PLC0415
            from service.mapping.syntax.references import SecretReference  # noqa: PLC0415

            try:
                SecretReference.parse(secret_name(text))
            except CompileError:
                # The error of a reference quotes it, and here somebody may have put the secret itself.
                places = "ssm:/name, secretsmanager:NAME, file:/path or env:NAME"
                raise ValueError(f"names no secret; write {places}") from None
        return value

    @field_validator("event_bus")
    @classmethod
    def _is_a_bus(cls, value: str) -> str:
        if value and not _EVENT_BUS.fullmatch(value):
            raise ValueError("must be the name or the ARN of an event bus of EventBridge")
        return value

    @field_validator("topic_arn")
    @classmethod
    def _is_a_topic(cls, value: str) -> str:
        if value.endswith(".fifo"):
            raise ValueError("is a FIFO topic; use a standard topic")
        if value and not _TOPIC_ARN.fullmatch(value):
            raise ValueError(
                "must be the ARN of an SNS topic, such as arn:aws:sns:eu-west-1:123456789012:name"
            )
        return value

    @field_validator("kinds")
    @classmethod
    def _are_kinds(cls, value: str) -> str:
        _kinds(value)
        return value

    @property
    def has_target(self) -> bool:
        """True if events go anywhere."""
        return bool(self.webhook_url.get_secret_value() or self.event_bus or self.topic_arn)

    @property
    def told_kinds(self) -> frozenset[EventKind]:
        """The kinds of events that are made; none without a target."""
        return _kinds(self.kinds) if self.has_target else frozenset()

    def problem(self) -> str:
        """The reason why the webhook's settings do not go together, or ""; without any of their values."""
        url, secret = self.webhook_url.get_secret_value(), self.webhook_secret.get_secret_value()
        if not url:
            return (
                "events.webhook_secret belongs to events.webhook_url: set both or neither" if secret else ""
            )
        if not secret:
            return "events.webhook_url needs events.webhook_secret: events are never sent unsigned"
        return self._problem_of(url)

    def _problem_of(self, url: str) -> str:
        try:
            parts = urlsplit(url)
            _ = parts.port  # raises ValueError for a port that is none
        except ValueError:
            return "events.webhook_url is no address"
        if parts.username is not None or parts.password is not None:
            return "events.webhook_url holds a user or password: the receiver checks the signature instead"
        schemes = {"https", "http"} if self.allow_private else {"https"}
        if parts.scheme not in schemes or not parts.hostname:
            return (
                "events.webhook_url has to be an address https://…; http:// is for a receiver in your own "
                "network, with events.allow_private=true"
            )
        return ""


def secret_name(reference: str) -> str:
    """The name of a secret in a reference: the text after `secret:` in a mapping's `${secret:…}`."""
    return reference.removeprefix("${").removesuffix("}").removeprefix("secret:")


def _kinds(text: str) -> frozenset[EventKind]:
    if text.strip() == "all":
        return frozenset(EventKind)
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in list(EventKind)]
    if unknown or not names:
        raise ValueError(f"must be all or some of {', '.join(EventKind)}, with commas")
    return frozenset(map(EventKind, names))
