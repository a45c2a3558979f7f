"""What is remembered of runs: a database of records, a folder of blobs, a folder of logs."""
