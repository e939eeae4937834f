"""The HTTP interface of the server: routes, request checks, responses and metrics."""
