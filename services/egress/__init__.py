"""Egress: Campaign's e-mail events become activities on the timeline of the contact in Dynamics 365."""
