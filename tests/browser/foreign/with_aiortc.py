"""A client of aiortc: publishes a test picture and a tone, and counts what it decodes. Steps as in steps.py."""

import asyncio

from aiortc import (RTCBundlePolicy, RTCConfiguration, RTCPeerConnection, RTCRtpReceiver, RTCRtpSender,
                    RTCSessionDescription)
from aiortc.codecs import get_capabilities
from aiortc.contrib.media import MediaPlayer
from aiortc.mediastreams import MediaStreamError

from steps import serve


def connection():
    return RTCPeerConnection(RTCConfiguration(bundlePolicy=RTCBundlePolicy.MAX_BUNDLE))


def only(transceiver, codec):
    """Of video codecs this one, and repetitions."""
    names = [f"video/{codec}".lower(), "video/rtx"]
    every = get_capabilities(transceiver.kind).codecs
    if transceiver.kind == "video":
        transceiver.setCodecPreferences([one for one in every if one.mimeType.lower() in names])


class Client:
    def __init__(self):
        self.sending = self.receiving = None
        self.players = []
        self.counts = {"video": {"frames": 0}, "audio": {"samples": 0}}

    async def capabilities(self, codec):
        asking = connection()
        for kind in ("audio", "video"):
            only(asking.addTransceiver(kind, direction="recvonly"), codec)
        offer = await asking.createOffer()
        await asking.close()
        return offer.sdp

    async def offer(self, codec, width, height):
        picture = MediaPlayer(f"testsrc=size={width}x{height}:rate=15", format="lavfi")
        tone = MediaPlayer("sine=frequency=440:sample_rate=48000", format="lavfi")
        self.players = [picture, tone]
        self.sending = connection()
        for track in (tone.audio, picture.video):
            only(self.sending.addTransceiver(track, direction="sendonly"), codec)
        await self.sending.setLocalDescription(await self.sending.createOffer())
        return self.sending.localDescription.sdp

    async def answered(self, sdp):
        await self.sending.setRemoteDescription(RTCSessionDescription(sdp, "answer"))

    async def answer(self, sdp, codec):
        self.receiving = connection()
        self.receiving.on("track", lambda track: asyncio.ensure_future(self.count(track)))
        await self.receiving.setRemoteDescription(RTCSessionDescription(sdp, "offer"))
        await self.receiving.setLocalDescription(await self.receiving.createAnswer())
        return self.receiving.localDescription.sdp

    async def count(self, track):
        counts = self.counts[track.kind]
        try:
            while True:
                frame = await track.recv()
                if track.kind == "audio":
                    counts["samples"] += frame.samples
                    continue
                counts.update(frames=counts["frames"] + 1, width=frame.width, height=frame.height)
        except MediaStreamError:
            pass

    def received(self):
        return self.counts

    async def askKeyFrame(self):
        receiver = next(one for one in self.receiving.getReceivers() if one.track.kind == "video")
        source = receiver.getSynchronizationSources()[0]
        await receiver._send_rtcp_pli(source.source)

    async def close(self):
        for one in (self.sending, self.receiving):
            if one:
                await one.close()
        for player in self.players:
            for track in (player.audio, player.video):
                if track:
                    track.stop()


asyncio.run(serve(Client()))
