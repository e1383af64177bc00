"""What happened: envelope, codec, the log, messages and subjects."""
