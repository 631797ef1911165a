// How loud the own microphone is, before there is a call. In a call the server says who speaks.

/** The level of a local track. */
export class LevelMeter {
  private context: AudioContext;
  private timer: ReturnType<typeof setInterval>;

  constructor(track: MediaStreamTrack, tell: (level: number) => void) {
    this.context = new AudioContext();
    const analyser = this.context.createAnalyser();
    analyser.fftSize = 512;
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
    void this.context.close();
  }
}
