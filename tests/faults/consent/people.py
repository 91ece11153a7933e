"""What people, imports, administrators and accidents do in a history. Each deed says what happened, or None if it could not."""

from __future__ import annotations

import random
from collections.abc import Callable

from tests.faults.consent.campaign import BAD, Campaign, Profile
from tests.faults.consent.dynamics import COLUMNS, OTHER, PERSON, Contact, Dynamics
from tests.faults.consent.setup import KEYS, Setup

Deed = Callable[[], str | None]


class People:
    """`click` is what can happen at any moment, in the middle of a call as well."""

    def __init__(self, rng: random.Random, setup: Setup, dynamics: Dynamics, campaign: Campaign) -> None:
        self._rng, self._setup, self.dynamics, self.campaign = rng, setup, dynamics, campaign
        self._dynamics_copy: tuple[dict[str, Contact], dict[str, Contact], int] | None = None
        self._campaign_copy: dict[str, Profile] | None = None
        self.restored: int | None = None  # when Dynamics was, and nobody has told us yet
        self.campaign_changed = False  # Campaign was restored, or somebody made profiles by hand
        self.keys = KEYS[: setup.people]
        self.deeds: list[tuple[Deed, int]] = [
            (self.click, 24),
            (self.edits, 3),
            (self.imports_back, 2),
            (self.imports, 2),
            (self.moves, 4 if setup.filtered else 0),
            (self.unknown_gender, 2),
            (self.deletes_contact, 2),
            (self.restores_contact, 3),
            (self.deletes_profile, 2),
            (self.makes_profile, 1),
            (self.merges, 1 if setup.people > 1 else 0),
            (self.backs_up, 3),
            (self.restores_dynamics, 2),
            (self.restores_campaign, 2),
        ]

    def begin(self) -> None:
        """Contacts that are there; some profiles of an older integration, some of them unsubscribed."""
        for key in self.keys:
            self.dynamics.create(key, {name for name in COLUMNS if self._rng.random() < 0.4})
            if self._rng.random() < 0.35:
                self.campaign.make(key, {})
                for flag in self.campaign.flags:
                    if self._rng.random() < 0.4:
                        self.campaign.say(key, flag, True)
        if self._rng.random() < 0.3:
            self._dynamics_copy, self._campaign_copy = self.dynamics.copy(), self.campaign.copy()

    def deed(self) -> str | None:
        deeds, weights = zip(*self.deeds, strict=True)
        chosen: Deed = self._rng.choices(deeds, weights)[0]
        return chosen()

    def click(self) -> str | None:
        """Somebody says yes or no, in one of the systems."""
        key, number = self._rng.choice(self.keys), self._rng.choice((0, 0, 1))
        if self._rng.random() < 0.5:
            if key not in self.dynamics.contacts:
                return None
            value = self._minded(self.dynamics.contacts[key].flags[COLUMNS[number]].value)
            by = self._rng.choice((PERSON, PERSON, OTHER))
            self.dynamics.say(key, COLUMNS[number], value, by)
            return f"says {COLUMNS[number]}={value} of {key[0]} in Dynamics"
        if key not in self.campaign.profiles:
            return None
        value = self._minded(self.campaign.profiles[key].flags[self.campaign.flags[number]].value)
        self.campaign.say(key, self.campaign.flags[number], value)
        return f"says {self.campaign.flags[number]}={value} of {key[0]} in Campaign"

    def opts_out(self, key: str, number: int, *, in_campaign: bool) -> str | None:
        """Somebody says no, in this system."""
        if in_campaign and key in self.campaign.profiles:
            self.campaign.say(key, self.campaign.flags[number], True)
        elif not in_campaign and key in self.dynamics.contacts:
            self.dynamics.say(key, COLUMNS[number], True)
        else:
            return None
        return f"says no of {key[0]} in {'Campaign' if in_campaign else 'Dynamics'}, flag {number}"

    def _minded(self, now: bool) -> bool:
        """Mostly somebody has changed his mind."""
        return not now if self._rng.random() < 0.75 else self._rng.random() < 0.5

    def edits(self) -> str | None:
        key = self._rng.choice(self.keys)
        if self._rng.random() < 0.7 and key in self.dynamics.contacts:
            self.dynamics.say(key, None, by=self._rng.choice((PERSON, OTHER)), firstname=self._rng.choice("abc"))
            return f"edits {key[0]} in Dynamics"
        if key in self.campaign.profiles:
            self.campaign.edit(key)
            return f"edits {key[0]} in Campaign"
        return None

    def imports_back(self) -> str | None:
        key, column, value = self._rng.choice(self.keys), self._rng.choice(COLUMNS), self._rng.random() < 0.7
        if key not in self.dynamics.contacts:
            return None
        self.dynamics.set_back(key, column, value, self._rng.choice((1, 30)))
        return f"imports {column}={value} of {key[0]} into Dynamics, modifiedon set back"

    def imports(self) -> str | None:
        """An import into Campaign stamps the flag even where it does not change."""
        key, flag, value = self._rng.choice(self.keys), self._rng.choice(self.campaign.flags), self._rng.random() < 0.5
        if key not in self.campaign.profiles:
            return None
        self.campaign.say(key, flag, value, always=True)
        return f"imports {flag}={value} of {key[0]} into Campaign"

    def moves(self) -> str | None:
        key = self._rng.choice(self.keys)
        if key not in self.dynamics.contacts:
            return None
        city = "Bergen" if self.dynamics.contacts[key].fields["address1_city"] == "Oslo" else "Oslo"
        self.dynamics.say(key, None, address1_city=city)
        return f"moves {key[0]} to {city}"

    def unknown_gender(self) -> str | None:
        key = self._rng.choice(self.keys)
        if key not in self.dynamics.contacts:
            return None
        gender = "1" if self.dynamics.contacts[key].fields["new_gender"] == BAD else BAD
        flag = self._rng.choice((None, *COLUMNS))
        self.dynamics.say(key, flag, True, new_gender=gender)
        return f"sets gender of {key[0]} to {gender}, and {flag} with it"

    def mend(self) -> None:
        """Nobody has an unknown gender any more."""
        for key, contact in self.dynamics.contacts.items():
            if contact.fields["new_gender"] == BAD:
                self.dynamics.say(key, None, new_gender="1")

    def deletes_contact(self) -> str | None:
        key = self._rng.choice(self.keys)
        if key not in self.dynamics.contacts:
            return None
        self.dynamics.delete(key)
        return f"deletes contact {key[0]}"

    def restores_contact(self) -> str | None:
        if not self.dynamics.bin:
            return None
        key = self._rng.choice(sorted(self.dynamics.bin))
        self.dynamics.undelete(key)
        return f"restores contact {key[0]}"

    def deletes_profile(self) -> str | None:
        key = self._rng.choice(self.keys)
        return None if self.campaign.profiles.pop(key, None) is None else f"deletes profile {key[0]} by hand"

    def makes_profile(self) -> str | None:
        """By hand; not of a contact that is to have none, of which ingress alone would never hear."""
        key = self._rng.choice(self.keys)
        if key in self.campaign.profiles or (self._setup.filtered and not self._setup.optin_runs):
            return None
        self.campaign.make(key, {})
        self.campaign_changed = True
        return f"makes profile {key[0]} by hand"

    def merges(self) -> str | None:
        loser, master = self._rng.sample(self.keys, 2)
        contacts = self.dynamics.contacts
        if loser not in contacts or master not in contacts or any(contacts[each].merged_into for each in (loser, master)):
            return None
        self.dynamics.merge(loser, master)
        return f"merges {loser[0]} into {master[0]}"

    def backs_up(self) -> str:
        if self._rng.random() < 0.5:
            self._dynamics_copy = self.dynamics.copy()
            return "backs up Dynamics"
        self._campaign_copy = self.campaign.copy()
        return "backs up Campaign"

    def restores_dynamics(self) -> str | None:
        if self._dynamics_copy is None:
            return None
        self.dynamics.restore(self._dynamics_copy)
        self.restored = self.dynamics.clock.time.now
        return "restores Dynamics from its backup"

    def restores_campaign(self) -> str | None:
        if self._campaign_copy is None:
            return None
        self.campaign.restore(self._campaign_copy)
        self.campaign_changed = True
        return "restores Campaign from its backup"
