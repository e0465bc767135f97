"""The twin's REST API: answers, weight, exchangeInfo."""
