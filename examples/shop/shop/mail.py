"""Mails, written to files instead of being sent."""

from __future__ import annotations

import email
import email.policy
from email.message import EmailMessage
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask


class UndeliverableError(Exception):
    """No mail server accepts mail for this address."""


def send_mail(app: Flask, to: str, subject: str, text: str, key: str) -> None:
    """Write a mail to the folder ``mail``.

    :param key: an idempotency key. One mail is written for each key.
    :raises UndeliverableError: for an address that ends in ``.invalid``, which never exists (RFC 2606).
    """
    if to.endswith(".invalid"):
        raise UndeliverableError("The domain does not exist.")

    mail = EmailMessage()
    mail["From"] = "The lamp shop <shop@lamps.example>"
    mail["To"] = to
    mail["Subject"] = subject
    mail.set_content(text)

    mailbox = folder(app)
    mailbox.mkdir(exist_ok=True)
    (mailbox / f"{key}.eml").write_bytes(bytes(mail))


def folder(app: Flask) -> Path:
    return Path(app.config["SHOP_FOLDER"], "mail")


def subjects(app: Flask) -> list[str]:
    """Return the subjects of all mails that were sent."""
    mails = (email.message_from_bytes(path.read_bytes(), policy=email.policy.default) for path in _sent(app))
    return [str(mail["Subject"]) for mail in mails]


def _sent(app: Flask) -> list[Path]:
    return sorted(folder(app).glob("*.eml"))
