"""Where commands and reports come in: checked, and turned into messages to actors."""
