"""The Adobe Campaign Standard room: nothing outside it speaks its API. Contract: campaign.md."""
