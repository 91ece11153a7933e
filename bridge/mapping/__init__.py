"""From a row of Dynamics to the fields of Campaign. Pure."""
