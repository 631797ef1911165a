// What is heard: an element for each voice. A browser may keep a page silent until somebody touches it;
// for as long as it does, that is told.

const TOUCHES = ['pointerdown', 'keydown'] as const;

export class Sounds {
  private elements = new Map<string, HTMLAudioElement>();
  private silent = new Set<HTMLAudioElement>();
  private place: HTMLElement;
  private changed: () => void;
  private touched = () => this.play();

  /** `changed`: the browser keeps us silent, or does not any more. */
  constructor(place: HTMLElement, changed: () => void) {
    this.place = place;
    this.changed = changed;
    for (const event of TOUCHES) addEventListener(event, this.touched);
  }

  get isSilent(): boolean {
    return this.silent.size > 0;
  }

  add(id: string, track: MediaStreamTrack, speaker: string): void {
    const element = document.createElement('audio');
    element.autoplay = true;
    void sendTo(element, speaker);
    element.srcObject = new MediaStream([track]);
    this.place.append(element);
    this.elements.set(id, element);
    void this.begin(id, element);
  }

  private async begin(id: string, element: HTMLAudioElement): Promise<void> {
    const error = await element.play().then(() => null, (error: DOMException) => error);
    if (this.elements.get(id) !== element) return;
    if (!error) this.silent.delete(element);
    else if (error.name === 'NotAllowedError') this.silent.add(element);
    this.changed();
  }

  /** Somebody touched the page: now it may be heard. */
  play(): void {
    for (const [id, element] of this.elements) {
      if (this.silent.has(element)) void this.begin(id, element);
    }
  }

  remove(id: string): void {
    const element = this.elements.get(id);
    if (!element) return;
    element.srcObject = null;
    element.remove();
    this.elements.delete(id);
    if (this.silent.delete(element)) this.changed();
  }

  /** To this speaker, all of them. */
  sendTo(speaker: string): void {
    for (const element of this.elements.values()) void sendTo(element, speaker);
  }

  close(): void {
    for (const event of TOUCHES) removeEventListener(event, this.touched);
    for (const id of [...this.elements.keys()]) this.remove(id);
  }
}

/** A speaker that is not there any more is none: then it is the usual one. */
async function sendTo(element: HTMLAudioElement, speaker: string): Promise<void> {
  if (!speaker || !('setSinkId' in element)) return;
  await element.setSinkId(speaker).catch(() => {});
}
