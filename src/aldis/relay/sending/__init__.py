"""Write a row for each durable receiver of a send, in the caller's transaction."""
