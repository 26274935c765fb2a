"""Claims rows again and again until there are none, and prints who held which row and when. For test_claims.py."""

from __future__ import annotations

import json
import sys
import time

from sqlalchemy import create_engine
from sqlalchemy.orm import sessionmaker

from aldis.relay import Relay
from aldis.relay.testing._claims import Claims
from aldis.relay.testing._harness import Harness, Shop


def main(url: str) -> None:
    engine = create_engine(url)
    shop = Shop(Harness(Relay(engine), sessionmaker(engine)))
    shop.connect("billing")
    shop.connect("mail", key="customer")
    claims = Claims(shop)
    claims.claim("billing", limit=0)  # The connection and the statements exist now.
    say("ready")
    sys.stdin.readline()

    while shop.rows():
        for name in ("mail", "billing"):
            rows = claims.claim(name, limit=4)
            began = time.monotonic()
            held = [(name, row.attempts, json.loads(row.payload or "")["order_id"]) for row in rows]
            ended = time.monotonic()
            count = claims.acknowledge(*rows)
            say(json.dumps({"held": held, "began": began, "ended": ended, "count": count}))

    engine.dispose()


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
