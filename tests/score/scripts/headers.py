"""Returns the headers that it is given."""


def init():
    pass


def run(data, request_headers):
    print("say:", type(request_headers).__name__, sorted(request_headers))
    return {"data": data, **{name: value for name, value in request_headers.items() if name not in {"Host", "Port"}}}
