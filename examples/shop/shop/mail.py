"""Mails, written to files instead of being sent."""

from __future__ import annotations

from email.message import EmailMessage
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

if TYPE_CHECKING:
    from flask import Flask


class UndeliverableError(Exception):
    """Nobody takes mail for this address."""


def send_mail(app: Flask, to: str, subject: str, text: str) -> None:
    """Write a mail to the folder ``mail``.

    :raises UndeliverableError: for addresses that end in ``.invalid``, which lead nowhere by definition (RFC 2606).
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
    (mailbox / f"{uuid4()}.eml").write_bytes(bytes(mail))


def folder(app: Flask) -> Path:
    return Path(app.config["SHOP_FOLDER"], "mail")
