"""Microsoft Dynamics 365 to Campaign: `reader` and `writer`."""
