"""What control decides: pure functions of what is handed in."""
