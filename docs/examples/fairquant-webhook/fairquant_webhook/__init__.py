"""A listener that posts to a webhook."""
