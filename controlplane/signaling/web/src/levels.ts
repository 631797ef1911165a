// How loud the own microphone is: before there is a call, and while two talk directly. Otherwise the
// server says who speaks.

const TOUCHES = ['pointerdown', 'keydown'] as const;

/** The level of a local track. */
export class LevelMeter {
  private context: AudioContext;
  private timer: ReturnType<typeof setInterval>;
  private wake = () => void this.context.resume();

  constructor(track: MediaStreamTrack, tell: (level: number) => void) {
    this.context = new AudioContext();
    const analyser = this.context.createAnalyser();
    analyser.fftSize = 512;
    // Until somebody touches the page its browser may keep it from measuring.
    for (const event of TOUCHES) addEventListener(event, this.wake);
    this.context.createMediaStreamSource(new MediaStream([track])).connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    this.timer = setInterval(() => {
      analyser.getFloatTimeDomainData(samples);
      const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
      tell(Math.sqrt(power));
    }, 80);
  }

  close(): void {
    clearInterval(this.timer);
    for (const event of TOUCHES) removeEventListener(event, this.wake);
    void this.context.close();
  }
}
