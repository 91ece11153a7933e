"""Children that Campaign holds but does not show, since their parent is not there (campaign.md §4.4), and deletes that may meet one."""

from __future__ import annotations

from bridge.campaign.errors import Duplicate, NotFound
from bridge.mapping.rows import flat, nested
from bridge.model.errors import ParkError, RejectError, RetryError
from bridge.model.state import Known
from services.ingress.target import CampaignCalls, Target


class Hidden:
    """Records by `<table>/<key>`. What is remembered here lives as long as the run."""

    def __init__(self, client: CampaignCalls) -> None:
        self._client = client
        self._hidden: set[str] = set()
        self._vain_deletes: set[str] = set()  # found nothing, and may find a hidden child later
        self._unanswered_deletes: set[str] = set()  # may have been done; no earlier one was in vain

    def shown(self, place: str) -> None:
        self._hidden.discard(place)

    def given_up(self, place: str) -> None:
        """It is a dead letter now; what comes next for it is found out again."""
        for places in (self._hidden, self._vain_deletes, self._unanswered_deletes):
            places.discard(place)

    def is_hidden(self, place: str) -> None:
        self._hidden.add(place)

    def check(self, place: str, exc: NotFound) -> None:
        """Raises ParkError for a record that is known to be hidden."""
        if place in self._hidden:
            raise parent_missing(exc) from exc

    async def delete(self, target: Target, key: str, place: str, known: Known | None) -> int:
        """Deletes a record; the status, 404 if it was not there. Raises ParkError for one that is hidden."""
        try:
            status = await self._client.delete(target.resource.path, key)
        except NotFound as exc:
            if target.resource.has_parents and known is not None and known.exists:
                await self._make_sure(target, key, place, exc, known)
            status = 404
        except RetryError:
            if place not in self._vain_deletes:
                self._unanswered_deletes.add(place)
            raise
        for places in (self._hidden, self._vain_deletes, self._unanswered_deletes):
            places.discard(place)
        return status

    async def _make_sure(self, target: Target, key: str, place: str, exc: NotFound, known: Known) -> None:
        """A delete of a child that we have made found nothing: returns if it is not there, raises ParkError if it is hidden.

        Creating it tells, but a record without its parent could not be deleted again: it gets the texts of one that Campaign shows,
        and with them that one's parents. Where Campaign shows none we believe it of one that it has shown before, and wait with another,
        unless an earlier delete may have been done.
        """
        if place in self._hidden:
            raise parent_missing(exc) from exc
        shown = await self._client.first(target.resource.path)
        if shown is None:
            if known.visible or place in self._unanswered_deletes:
                return
            self._vain_deletes.add(place)
            raise parent_missing(exc) from exc
        texts = {name: value for name, value in flat(shown).items() if isinstance(value, str) and value}
        names = [field.target for field in target.table.fields]
        body = {name: texts[name] for name in names if name in texts} | {target.mapper.key_field.name: key}
        try:
            await self._client.create(target.resource.path, nested(body))
        except (Duplicate, RejectError) as told:  # there, or not to be told
            if isinstance(told, RejectError) and known.visible:
                return
            self._hidden.add(place)
            raise parent_missing(exc) from exc
        await self._client.delete(target.resource.path, key)


def parent_missing(exc: NotFound) -> ParkError:
    return ParkError(
        "Campaign does not show this record: the parent it is linked to is not there yet", code="parent_missing", status=exc.status
    )
