"""What schemathesis cannot know: the ids of what prepare.py made. Every second right request names
something that is there, so that it does more than find nothing. What was made wrong on purpose stays
as it is, and what the other calls stand on is not closed."""

import schemathesis

THERE = {
    "routers": ("room",),
    "transports": ("send", "recv"),
    "producers": ("audio", "video"),
    "consumers": ("see-audio", "see-video"),
    "observers": ("loudest", "dominant"),
    "workers": ("0",),
}
FIELDS = {
    "routerId": "routers",
    "transportId": "transports",
    "producerId": "producers",
    "workerId": "workers",
}
# Behind this nothing is kept: a stream that opened would not end.
LONG_AGO = "1-1"

seen = {}


def turn(what):
    """Counts: every second time it is true."""
    seen[what] = seen.get(what, 0) + 1
    return seen[what] % 2 == 0


def one_of(kind):
    names = THERE[kind]
    return names[seen.get(kind, 0) % len(names)]


def is_right(case):
    meta = case.meta
    return meta is None or meta.generation.mode.is_positive


@schemathesis.hook
def before_call(context, case, kwargs):
    if case.operation.path == "/v1/events":
        query = dict(case.query or {})
        case.query = {**query, "after": query.get("after") or LONG_AGO}
        case.headers = {key: value for key, value in (case.headers or {}).items()
                        if key.lower() != "last-event-id"}
    if not is_right(case) or case.method == "DELETE":
        return
    if case.operation.path.endswith("/capture"):
        # It takes as long as it is told to.
        case.query = {**(case.query or {}), "seconds": 1}
        return
    kind = case.operation.path.split("/")[2]
    if kind in THERE and case.path_parameters and turn(kind):
        case.path_parameters["id"] = one_of(kind)
        if "producerId" in case.path_parameters:
            case.path_parameters["producerId"] = one_of("producers")
    if isinstance(case.body, dict):
        for field in case.body.keys() & FIELDS.keys():
            if turn(field):
                case.body[field] = one_of(FIELDS[field])
