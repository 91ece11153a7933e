"""Stand-ins for Dynamics 365, Adobe Campaign and a local Kafka. For the demo and the tests; never imported by the product."""
