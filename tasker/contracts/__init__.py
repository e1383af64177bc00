"""What other programs are told of us: JSON Schema and AsyncAPI documents, made from the structs and the subjects."""
