// A source by which picture and sound can be compared: every two seconds the picture flashes and the
// sound beeps, by one clock; and what is left of that in a file.

import { spawn } from 'node:child_process';

/** In the page, before it is opened: camera and microphone are these. */
export function flashAndBeep() {
  const { mediaDevices } = navigator;
  const EVERY_S = 2;
  const LONG_S = 0.25;
  let made;
  mediaDevices.getUserMedia = async (wanted) => {
    made ??= await make();
    const stream = new MediaStream();
    if (wanted.video) stream.addTrack(made.picture.clone());
    if (wanted.audio) stream.addTrack(made.sound.clone());
    return stream;
  };

  async function make() {
    const context = new AudioContext({ sampleRate: 48_000 });
    await context.resume();
    const tone = new OscillatorNode(context, { frequency: 1_000 });
    const loudness = new GainNode(context, { gain: 0 });
    const out = context.createMediaStreamDestination();
    tone.connect(loudness).connect(out);
    tone.start();
    const first = Math.ceil(context.currentTime) + EVERY_S;
    for (let turn = 0; turn < 60; turn += 1) {
      const at = first + turn * EVERY_S;
      loudness.gain.setValueAtTime(0.5, at);
      loudness.gain.setValueAtTime(0, at + LONG_S);
    }
    const canvas = document.createElement('canvas');
    [canvas.width, canvas.height] = [640, 360];
    const brush = canvas.getContext('2d');
    setInterval(() => {
      const since = context.currentTime - first;
      const flashes = since >= 0 && since % EVERY_S < LONG_S;
      brush.fillStyle = flashes ? '#fff' : '#123';
      brush.fillRect(0, 0, canvas.width, canvas.height);
      // Something moves, so that there is a new picture each time.
      brush.fillStyle = flashes ? '#ccc' : '#345';
      brush.fillRect((since * 200) % canvas.width, 300, 40, 40);
    }, 15);
    return { picture: canvas.captureStream(30).getVideoTracks()[0], sound: out.stream.getAudioTracks()[0] };
  }
}

/** Runs a program to its end; what it wrote. */
export function run(program, words, options = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, words, { stdio: ['ignore', 'pipe', 'pipe'], ...options });
    let [out, said] = ['', ''];
    child.stdout.on('data', (data) => (out += data));
    child.stderr.on('data', (data) => (said += data));
    child.once('error', reject);
    child.once('close', (code) => (code === 0 ? resolve(out) : reject(new Error(`${program}: ${said.slice(-2_000)}`))));
  });
}

/** What FFmpeg's filters say of each frame, `{time, value}`. */
async function measure(file, words, key) {
  const out = await run('ffmpeg', ['-nostdin', '-hide_banner', '-loglevel', 'error', '-i', file, ...words, '-f', 'null', '-']);
  const values = [];
  let time = 0;
  for (const line of out.split('\n')) {
    const at = line.match(/pts_time:([\d.]+)/);
    if (at) time = Number(at[1]);
    if (line.startsWith(key)) values.push({ time, value: Number(line.split('=')[1]) });
  }
  return values;
}

/** The moments at which a value goes above a limit, after it was below for a while: between the last frame below and the first above. */
function onsets(values, limit) {
  const moments = [];
  let [below, before] = [null, 0];
  for (const { time, value } of values) {
    if (value > limit) {
      if (below !== null && time - below > 0.5) moments.push((before + time) / 2);
      below = null;
    } else below ??= time;
    before = time;
  }
  return moments;
}

/** Of each flash that has its beep: how much later the beep comes, milliseconds. */
export async function offsets(file) {
  const [light, loudness] = ['lavfi.signalstats.YAVG', 'lavfi.astats.Overall.RMS_level'];
  const [pictures, sounds] = await Promise.all([
    measure(file, ['-map', '0:v', '-vf', `scale=32:18,signalstats,metadata=print:key=${light}:file=-`], light),
    measure(file, ['-map', '0:a', '-af', `asetnsamples=480,astats=metadata=1:reset=1,ametadata=print:key=${loudness}:file=-`], loudness),
  ]);
  const [flashes, beeps] = [onsets(pictures, 90), onsets(sounds, -35)];
  const near = flashes.map((flash) => beeps.map((beep) => (beep - flash) * 1_000).find((ms) => Math.abs(ms) < 900));
  return near.filter((ms) => ms !== undefined);
}
