// In the page: notes each decoded frame's RTP timestamp and the moment it reached its track, from
// the receivers' own records. Much cheaper than looking at every picture, and independent of what is
// drawn. Installed before the page's own scripts.

export function watchFrames() {
  const watches = new Map();

  window.frameWatch = {
    /** Begins to note the frames of a consumer. */
    start(consumerId) {
      const receiver = window.ironcast.tracks.get(consumerId).consumer.rtpReceiver;
      const frames = [];
      const timer = setInterval(() => {
        const source = receiver.getSynchronizationSources()[0];
        if (!source || source.rtpTimestamp === frames.at(-1)?.rtpTimestamp) return;
        frames.push({ rtpTimestamp: source.rtpTimestamp, time: source.timestamp, ssrc: source.source });
      }, 10);
      watches.set(consumerId, { frames, timer });
    },
    /** Ends it and tells the longest pause, and the largest disagreement of the two clocks. */
    stop(consumerId) {
      const { frames, timer } = watches.get(consumerId);
      clearInterval(timer);
      watches.delete(consumerId);
      let pauseMs = 0;
      let backwards = 0;
      const offsets = [];
      for (let index = 1; index < frames.length; index += 1) {
        const [before, now] = [frames[index - 1], frames[index]];
        const steps = (now.rtpTimestamp - before.rtpTimestamp) | 0;
        if (steps <= 0) backwards += 1;
        pauseMs = Math.max(pauseMs, now.time - before.time);
        const media = ((now.rtpTimestamp - frames[0].rtpTimestamp) | 0) / 90;
        offsets.push(now.time - frames[0].time - media);
      }
      const drift = offsets.length ? Math.max(...offsets) - Math.min(...offsets) : 0;
      return { frames: frames.length, pauseMs, backwards, driftMs: drift, ssrcs: new Set(frames.map(({ ssrc }) => ssrc)).size };
    },
  };
}
