"""A day's email traffic, the same for the same seed: who got which mail, and what came of it (contract 8.5, S28)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from random import Random

from sandbox.campaign.events import KINDS, MEMBERS, EmailEvent

CAMPAIGNS = {
    "CAMP2010": ("DM190", "DM200", "DM210"),
    "2019LoyaltyCamp": ("Loyalty welcome", "Loyalty points", "Loyalty reminder"),
    "Spring sale": ("Spring teaser", "Spring sale A", "Spring sale B"),
    "Newsletter": ("Newsletter EN", "Newsletter DE"),
    "Sicherheits-Rückruf": ("Rückruf №1",),
}
DELIVERIES = [(campaign, delivery) for campaign, deliveries in CAMPAIGNS.items() for delivery in deliveries]
URLS = (
    "https://www.example.com/offers/spring?utm_source=campaign&utm_medium=email",
    "https://www.example.com/loyalty/points",
    "https://shop.example.com/p/4711?size=M&colour=gr%C3%BCn",
    "https://www.example.com/newsletter/articles/how-to-choose-a-car",
)
SENDING_S = 18 * 3600  # nothing that follows a send takes longer than the rest of the day
TIMELINE = ("send", "open", "click", "bounce")


class _Mail:
    """One mail and its events so far."""

    def __init__(self, random: Random, keys: Sequence[str], start: datetime, logs: Iterator[int]) -> None:
        self.random, self.logs, self.start = random, logs, start
        self.key = random.choice(keys)
        self.campaign, self.delivery = random.choice(DELIVERIES)
        self.member = random.choice(list(MEMBERS)) if random.random() < 0.01 else None
        self.log = str(next(logs))
        self.events: list[tuple[float, EmailEvent]] = []

    def add(self, kind: str, second: float) -> None:
        at = (self.start + timedelta(seconds=int(second))).isoformat()
        tracking = str(next(self.logs)) if KINDS[kind].tracked else None
        url = self.random.choice(URLS) if kind == "click" else None
        event = EmailEvent(kind, self.key, self.campaign, self.delivery, at, url, member=self.member, broad_log_id=self.log)
        event.tracking_log_id = tracking
        self.events.append((second, event))

    def run(self) -> None:
        """A send, then a bounce or what the reader did."""
        chance, second = self.random.random, self.random.uniform(0, SENDING_S)
        self.add("send", second)
        fate = chance()
        if fate < 0.04:
            self.add("bounce" if fate < 0.02 else "soft_bounce", second + self.random.uniform(2, 3600))
            return
        if chance() < 0.02:
            self.add("delivered", second + self.random.uniform(1, 60))
        opened = second + self.random.triangular(20, 9000, 600)
        if chance() < 0.35:
            self._opens(opened)
        if chance() < 0.08:
            self.add("click", opened + self.random.uniform(5, 120))
            if chance() < 0.25:
                self.add("click", opened + self.random.uniform(130, 1800))
        if chance() < 0.004:
            self.add("unsubscribe", opened + self.random.uniform(10, 300))

    def _opens(self, second: float) -> None:
        """Every fourth mail that is opened is opened again: within the minute or so, or later."""
        self.add("open", second)
        while self.random.random() < 0.25 and len(self.events) < 6:
            second += self.random.choice((self.random.uniform(2, 30), self.random.uniform(60, 2400)))
            self.add("open", second)


def traffic(seed: int, mails: int, keys: Sequence[str], start: datetime, logs: Iterator[int]) -> tuple[list[EmailEvent], dict[str, int]]:
    """The events of `mails` mails in the 24 hours from `start`, in order of time, and how many of each kind belong on a
    contact's timeline: not those of proofs, tests, seeds and control groups. `logs` numbers the log rows."""
    if not keys:
        raise ValueError("no contact to write to")
    random, found, expected = Random(seed), list[tuple[float, EmailEvent]](), Counter(dict.fromkeys(TIMELINE, 0))
    for _ in range(mails):
        mail = _Mail(random, keys, start, logs)
        mail.run()
        found += mail.events
        if mail.member is None:
            expected.update(event.kind for _, event in mail.events if event.kind in TIMELINE)
    found.sort(key=lambda pair: pair[0])
    return [event for _, event in found], dict(expected)
