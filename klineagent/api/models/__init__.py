"""The JSON of requests and answers, as Structs."""
