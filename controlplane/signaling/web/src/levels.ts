// How loud a track of an own microphone is: before there is a call, and while no server hears it. All
// share one context: to make one takes a browser a while, and pictures would wait for it.

const LOOK_MS = 80;
const TOUCHES = ['pointerdown', 'keydown'] as const;

let context: AudioContext | null = null;
let meters = 0;

/** Until somebody touches the page its browser may keep it from measuring. */
function wake(): void {
  if (meters > 0) void context?.resume().catch(() => {});
}

/** The level of a local track. */
export class LevelMeter {
  private source: MediaStreamAudioSourceNode;
  private timer: ReturnType<typeof setInterval>;

  constructor(track: MediaStreamTrack, tell: (level: number) => void) {
    if (!context) {
      context = new AudioContext();
      for (const event of TOUCHES) addEventListener(event, wake);
    }
    meters += 1;
    wake();
    const analyser = context.createAnalyser();
    analyser.fftSize = 512;
    this.source = context.createMediaStreamSource(new MediaStream([track]));
    this.source.connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    this.timer = setInterval(() => {
      analyser.getFloatTimeDomainData(samples);
      const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
      tell(Math.sqrt(power));
    }, LOOK_MS);
  }

  close(): void {
    clearInterval(this.timer);
    this.source.disconnect();
    meters -= 1;
    if (meters === 0) void context?.suspend().catch(() => {});
  }
}
