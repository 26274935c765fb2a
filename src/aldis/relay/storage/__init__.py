"""The relay's tables, and every statement on them."""
