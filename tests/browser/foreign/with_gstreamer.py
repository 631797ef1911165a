"""A client of GStreamer's webrtcbin: publishes a test picture and a tone, and counts what it decodes. Steps as in
steps.py. webrtcbin has threads of its own; what is asked of it is waited for."""

import asyncio
import sys

try:
    import gi
    gi.require_version("Gst", "1.0")
    gi.require_version("GstSdp", "1.0")
    gi.require_version("GstVideo", "1.0")
    gi.require_version("GstWebRTC", "1.0")
    from gi.repository import Gst, GstSdp, GstVideo, GstWebRTC
except (ImportError, ValueError) as error:
    sys.exit(f"GStreamer for Python is not here ({error}): `tests/run browser` installs it")

from steps import serve

Gst.init(None)
NEEDED = ("webrtcbin", "nicesrc", "vp8enc", "vp8dec", "openh264enc", "openh264dec", "opusenc", "opusdec", "rtpvp8pay")

ENCODERS = {
    # A key frame only when one is asked for.
    "VP8": "vp8enc deadline=1 keyframe-max-dist=100000 target-bitrate=400000 ! rtpvp8pay picture-id-mode=15-bit",
    "H264": "openh264enc gop-size=100000 bitrate=400000 complexity=low ! video/x-h264,profile=constrained-baseline ! "
            "rtph264pay config-interval=-1 aggregate-mode=zero-latency",
}
PUBLISH = """webrtcbin name=peer bundle-policy=max-bundle
    audiotestsrc is-live=true ! audioconvert ! audioresample ! opusenc ! rtpopuspay !
        application/x-rtp,media=audio,encoding-name=OPUS,encoding-params=(string)2,payload=111 ! peer.
    videotestsrc is-live=true pattern=ball ! video/x-raw,width={width},height={height},framerate=15/1 ! videoconvert !
        {encoder} ! application/x-rtp,media=video,encoding-name={codec},payload=96 ! peer."""
DECODERS = {
    "VP8": "rtpvp8depay ! vp8dec",
    "H264": "rtph264depay ! h264parse ! openh264dec",
    "OPUS": "rtpopusdepay ! opusdec ! audio/x-raw,format=S16LE,rate=48000",
}
CAPABILITIES = {
    "audio": "application/x-rtp,media=audio,encoding-name=OPUS,clock-rate=48000,encoding-params=(string)2,payload=111",
    "video": "application/x-rtp,media=video,encoding-name={codec},clock-rate=90000,payload=96,"
             "rtcp-fb-nack=(boolean)true,rtcp-fb-nack-pli=(boolean)true{more}",
}
H264 = ",packetization-mode=(string)1,profile-level-id=(string)42e01f"
# The second section of the SDP. With RTX for audio too, both would have the same payload type.
VIDEO = 1
Direction, Signaling = GstWebRTC.WebRTCRTPTransceiverDirection, GstWebRTC.WebRTCSDPType


def ask(peer, signal, *words):
    """Emits a signal that answers by a promise, and waits. What is in the answer lives as long as the answer."""
    promise = Gst.Promise.new()
    peer.emit(signal, *words, promise)
    promise.wait()
    return promise.get_reply()


def alone():
    """A webrtcbin that sends nothing."""
    pipeline, peer = Gst.Pipeline(), Gst.ElementFactory.make("webrtcbin")
    peer.set_property("bundle-policy", GstWebRTC.WebRTCBundlePolicy.MAX_BUNDLE)
    pipeline.add(peer)
    pipeline.set_state(Gst.State.PLAYING)
    return pipeline, peer


def described(kind, text):
    _, message = GstSdp.SDPMessage.new_from_text(text)
    return GstWebRTC.WebRTCSessionDescription.new(kind, message)


def describe(peer, kind):
    """Makes the local description, with all candidates."""
    made = ask(peer, f"create-{kind}", None)
    ask(peer, "set-local-description", made.get_value(kind))


async def gathered(peer):
    while peer.get_property("ice-gathering-state") != GstWebRTC.WebRTCICEGatheringState.COMPLETE:
        await asyncio.sleep(0.01)
    return peer.get_property("local-description").sdp.as_text()


class Client:
    def __init__(self):
        missing = [name for name in NEEDED if not Gst.ElementFactory.find(name)]
        if missing:
            sys.exit(f"GStreamer here has no {', '.join(missing)}: `tests/run browser` installs them")
        self.pipelines = []
        self.counts = {"video": {"frames": 0}, "audio": {"samples": 0}}
        self.sinks = {}

    def capabilities(self, codec):
        pipeline, peer = alone()
        for index, kind in enumerate(("audio", "video")):
            caps = CAPABILITIES[kind].format(codec=codec, more=H264 if codec == "H264" else "")
            transceiver = peer.emit("add-transceiver", Direction.RECVONLY, Gst.Caps.from_string(caps))
            transceiver.set_property("do-nack", index == VIDEO)
        made = ask(peer, "create-offer", None)
        offer = made.get_value("offer").sdp.as_text()
        pipeline.set_state(Gst.State.NULL)
        return offer

    async def offer(self, codec, width, height):
        text = PUBLISH.format(codec=codec, width=width, height=height, encoder=ENCODERS[codec])
        pipeline = Gst.parse_launch(text)
        self.pipelines.append(pipeline)
        self.sending = pipeline.get_by_name("peer")
        for index in range(2):
            transceiver = self.sending.emit("get-transceiver", index)
            transceiver.set_property("direction", Direction.SENDONLY)
            transceiver.set_property("do-nack", index == VIDEO)
        pipeline.set_state(Gst.State.PLAYING)
        # Its offer names the SSRC of what has begun to come.
        while not all(pad.get_current_caps() for pad in self.sending.sinkpads):
            await asyncio.sleep(0.01)
        describe(self.sending, "offer")
        return await gathered(self.sending)

    def answered(self, sdp):
        ask(self.sending, "set-remote-description", described(Signaling.ANSWER, sdp))

    async def answer(self, sdp, codec):
        pipeline, peer = alone()
        self.pipelines.append(pipeline)
        peer.connect("pad-added", lambda _, pad: self.decode(pipeline, pad))
        peer.connect("on-new-transceiver", self.repeat)
        ask(peer, "set-remote-description", described(Signaling.OFFER, sdp))
        describe(peer, "answer")
        return await gathered(peer)

    @staticmethod
    def repeat(_, transceiver):
        transceiver.set_property("do-nack", transceiver.get_property("kind") == GstWebRTC.WebRTCKind.VIDEO)

    def decode(self, pipeline, pad):
        codec = pad.get_current_caps().get_structure(0).get_value("encoding-name")
        decoder = Gst.parse_bin_from_description(f"queue ! {DECODERS[codec]} ! fakesink name=end signal-handoffs=true", True)
        end = decoder.get_by_name("end")
        kind = "audio" if codec == "OPUS" else "video"
        end.connect("handoff", self.count, kind)
        self.sinks[kind] = end.get_static_pad("sink")
        pipeline.add(decoder)
        decoder.sync_state_with_parent()
        pad.link(decoder.get_static_pad("sink"))
        # The first key frame may have come before there were keys: webrtcbin tells its DTLS and its SRTP apart.
        if kind == "video":
            self.askKeyFrame()

    def count(self, _, buffer, pad, kind):
        counts = self.counts[kind]
        structure = pad.get_current_caps().get_structure(0)
        if kind == "audio":
            counts["samples"] += buffer.get_size() // (2 * structure.get_value("channels"))
            return
        counts.update(frames=counts["frames"] + 1, width=structure.get_value("width"), height=structure.get_value("height"))

    def received(self):
        return self.counts

    def askKeyFrame(self):
        event = GstVideo.video_event_new_upstream_force_key_unit(Gst.CLOCK_TIME_NONE, False, 0)
        self.sinks["video"].push_event(event)

    def close(self):
        for pipeline in self.pipelines:
            pipeline.set_state(Gst.State.NULL)


asyncio.run(serve(Client()))
