"""Measuring speed, beside the user's journey: nothing else imports this room."""
