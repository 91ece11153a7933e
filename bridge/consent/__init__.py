"""Consent: what people said about being contacted, and what may follow from it (shared contract *Opt-outs on every path*).

One room for both paths on which opt-outs travel, the contact mapping of ingress and Opt In/Out. Everything here is pure.

    flags.py    which attributes of a profile are opt-outs
    words.py    words and facts of one contact, as plain data
    hearing.py  (what is known, an observation) -> what is known now
    rule.py     the conflict rule of campaign.md §10.4, applied to words
    mapped.py   flags that travel with the contact mapping: what is raised, lowered or kept
    meaning.py  columns whose TRUE means yes, which are no opt-outs
    guard.py    how much may be lowered or deleted in an hour, over all workflows and instances
"""
