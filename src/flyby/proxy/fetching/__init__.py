"""What the store cannot answer: ask an origin, decide, stream; one fetch for a crowd."""
