"""The REST API: answers, weight, exchangeInfo."""
