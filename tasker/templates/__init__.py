"""What a workflow is: the DAG as data, its checks and its hash."""
