// A voice instead of the fake microphone, which only clicks: syllables of noise, with the pauses between
// words, as loud as people speak.

/** In the page, before it is opened: `window.voice.speaks = true` lets it speak. */
export function voice() {
  const { mediaDevices } = navigator;
  const original = mediaDevices.getUserMedia.bind(mediaDevices);
  window.voice = { speaks: false };
  mediaDevices.getUserMedia = async (wanted) => {
    const stream = new MediaStream();
    if (wanted.video) (await original({ video: wanted.video })).getTracks().forEach((track) => stream.addTrack(track));
    if (wanted.audio) stream.addTrack(await sound());
    return stream;
  };

  async function sound() {
    const context = new AudioContext();
    await context.resume();
    const buffer = context.createBuffer(1, context.sampleRate, context.sampleRate);
    const samples = buffer.getChannelData(0);
    for (let at = 0; at < samples.length; at += 1) samples[at] = Math.random() * 2 - 1;
    const noise = new AudioBufferSourceNode(context, { buffer, loop: true });
    const filter = new BiquadFilterNode(context, { type: 'lowpass', frequency: 1_200 });
    const loudness = new GainNode(context, { gain: 0 });
    const out = context.createMediaStreamDestination();
    noise.connect(filter).connect(loudness).connect(out);
    noise.start();
    let step = 0;
    setInterval(() => {
      step += 1;
      // A syllable of 200 ms, a pause of 50.
      const is = window.voice.speaks && step % 5 !== 0;
      loudness.gain.setTargetAtTime(is ? 0.4 : 0, context.currentTime, 0.005);
    }, 50);
    return out.stream.getAudioTracks()[0];
  }
}
