"""Options of fields in driver interfaces (`jumpstarter.annotations`), beside their .proto file."""
