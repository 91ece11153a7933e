"""What two or more services of Campaign Bridge share. docs/architecture.md is the map."""

__version__ = "0.1.0"
