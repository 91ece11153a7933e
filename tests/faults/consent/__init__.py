"""A simulation of consent: people, two systems and the product's real code between them, with an oracle that knows the contract only."""
