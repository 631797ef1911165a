"""Waits until the server is ready, makes a room with something of each kind, and keeps the server's
OpenAPI document.

    prepare.py ADDRESS TOKEN DOCUMENT

The ids are those that hooks.py puts into requests."""

import json
import sys
import time
import urllib.error
import urllib.request

READY_WITHIN_S = 60
FINGERPRINT = ":".join(f"{byte:02X}" for byte in range(32))
OPUS = {"mimeType": "audio/opus", "payloadType": 111, "clockRate": 48000, "channels": 2}
VP8 = {"mimeType": "video/VP8", "payloadType": 96, "clockRate": 90000}


class Server:
    def __init__(self, address, token):
        self.address, self.token = address, token

    def call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        request = urllib.request.Request(self.address + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.loads(answer.read() or b"null")

    def wait(self):
        end = time.monotonic() + READY_WITHIN_S
        while True:
            try:
                return self.call("GET", "/v1/ready")
            except (urllib.error.URLError, OSError) as error:
                if time.monotonic() > end:
                    raise SystemExit(f"the server is not ready: {error}") from error
                time.sleep(0.05)


def main():
    address, token, document = sys.argv[1:]
    server = Server(address, token)
    server.wait()
    caps = server.call("POST", "/v1/routers", {"id": "room"})["rtpCapabilities"]
    for transport in ("send", "recv"):
        body = {"id": transport, "routerId": "room", "type": "webrtc", "participantId": "somebody"}
        server.call("POST", "/v1/transports", body)
    dtls = {"role": "client", "fingerprints": [{"algorithm": "sha-256", "value": FINGERPRINT}]}
    server.call("POST", "/v1/transports/send/connect", {"dtlsParameters": dtls})
    for number, (kind, codec) in enumerate((("audio", OPUS), ("video", VP8))):
        server.call("POST", "/v1/producers", {
            "id": kind, "transportId": "send", "kind": kind,
            "rtpParameters": {"mid": str(number), "codecs": [codec], "encodings": [{"ssrc": 1000 + number}]},
        })
        server.call("POST", "/v1/consumers", {
            "id": f"see-{kind}", "transportId": "recv", "producerId": kind, "rtpCapabilities": caps,
        })
    for observer, kind in (("loudest", "audiolevel"), ("dominant", "activespeaker")):
        body = {"id": observer, "routerId": "room", "type": kind}
        server.call("POST", "/v1/observers", body)
        server.call("POST", f"/v1/observers/{observer}/producers/audio")
    with open(document, "w", encoding="utf-8") as file:
        json.dump(server.call("GET", "/openapi.json"), file)


if __name__ == "__main__":
    main()
