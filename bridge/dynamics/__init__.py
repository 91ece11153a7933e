"""The Dynamics 365 room: nothing outside it speaks the Dataverse Web API. Contract: dataverse.md."""
