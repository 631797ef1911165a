// Other devices in the middle of a call: what is chosen is used at once, and the next time.

import type { Call } from './call.ts';
import type { Own } from './own.ts';
import { openDialog } from './dialog.ts';
import { inWords, listDevices, openCamera, openMic, rememberedDevices } from './devices.ts';
import { LevelMeter } from './levels.ts';
import { remember, type Options } from './options.ts';
import { toast } from './toasts.ts';

const NAMES = { camera: 'Camera', mic: 'Microphone', speaker: 'Speaker' };
const KINDS = { camera: 'videoinput', mic: 'audioinput', speaker: 'audiooutput' } as const;
type Device = keyof typeof KINDS;

/** Fills a selection with the devices that there are. */
export async function fillDevices(select: HTMLSelectElement, device: Device, current = ''): Promise<void> {
  const devices = await listDevices(KINDS[device]);
  const name = NAMES[device];
  select.replaceChildren(...devices.map(({ label, deviceId }, index) => new Option(label || `${name} ${index + 1}`, deviceId)));
  if (devices.length === 0) select.append(new Option(`No ${name.toLowerCase()} found`, ''));
  select.disabled = devices.length === 0;
  if (devices.some(({ deviceId }) => deviceId === current)) select.value = current;
}

/** Browsers that cannot send sound elsewhere have no such choice. */
export const canChooseSpeaker = 'setSinkId' in HTMLMediaElement.prototype;

export function openSettings(call: Call, own: Own, options: Options, spoken: (deviceId: string) => void): void {
  let meter: LevelMeter | null = null;
  const { body } = openDialog('Devices', () => {
    meter?.close();
    navigator.mediaDevices?.removeEventListener('devicechange', list);
  });
  body.innerHTML = `
    <label>Camera<select name="camera"></select></label>
    <label>Microphone<select name="mic"></select></label>
    <div class="meter inline" aria-hidden="true"><i></i></div>
    <label>Speaker<select name="speaker"></select></label>
    <p class="hint">What you choose is used at once.</p>`;
  const select = (device: Device) => body.querySelector<HTMLSelectElement>(`[name=${device}]`)!;
  select('speaker').parentElement!.hidden = !canChooseSpeaker;
  const remembered = rememberedDevices();
  const list = () => {
    const used = (source: 'camera' | 'mic') => call.local.get(source)?.getSettings().deviceId ?? remembered[source];
    void fillDevices(select('camera'), 'camera', used('camera'));
    void fillDevices(select('mic'), 'mic', used('mic'));
    void fillDevices(select('speaker'), 'speaker', rememberedDevices().speaker);
  };
  const bar = body.querySelector<HTMLElement>('.meter i')!;
  const measure = () => {
    meter?.close();
    const track = call.local.get('mic');
    meter = track ? new LevelMeter(track, (level) => (bar.style.transform = `scaleX(${Math.min(1, level * 3)})`)) : null;
  };
  const failed = (what: string) => (error: unknown) => {
    toast(inWords(error, what), 'error');
    list();
  };
  select('camera').onchange = () => {
    const { value } = select('camera');
    remember('camera', value);
    const open = () => openCamera(options, value);
    // Phones have one camera open at a time.
    const alone = (error: unknown) => {
      if ((error as DOMException).name !== 'NotReadableError') throw error;
      call.local.get('camera')?.stop();
      return open();
    };
    own.replace('camera', () => open().catch(alone)).catch(failed('camera'));
  };
  select('mic').onchange = () => {
    const { value } = select('mic');
    remember('mic', value);
    own.replace('mic', () => openMic(value)).then(measure, failed('microphone'));
  };
  select('speaker').onchange = () => {
    remember('speaker', select('speaker').value);
    spoken(select('speaker').value);
  };
  navigator.mediaDevices?.addEventListener('devicechange', list);
  list();
  measure();
}
