"""The page on which an operator watches the service."""
