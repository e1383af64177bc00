"""What a person does to a task by hand."""
