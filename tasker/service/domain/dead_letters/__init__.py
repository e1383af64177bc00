"""Work that nobody goes on with by itself, and what people do about it."""
